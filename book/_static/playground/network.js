// Runs what mmlib/book/playground.py has written down: a network as a list of operations, on the processor.
// Tensors are laid out as PyTorch has them, [rows, channels, height, width]; TensorFlow.js wants channels last.
const network = (() => {
  const channelsLast = (x) => tf.transpose(x, [0, 2, 3, 1]);
  const channelsFirst = (x) => tf.transpose(x, [0, 3, 1, 2]);

  // Those that are not here go by the name that they have in TensorFlow.js: relu, sigmoid, mul, ...
  const OPERATIONS = {
    reshape: ([x], { shape }) => tf.reshape(x, shape),
    slice: ([x], { begin, size, shape }) => tf.reshape(tf.slice(x, begin, size), shape),
    stack: (parts, { axis }) => tf.stack(parts, axis),
    concat: (parts, { axis }) => tf.concat(parts, axis),
    gather: ([x], { at }) => tf.gatherND(x, tf.tensor(at, undefined, "int32")),
    sum: ([x], { axes, keep }) => tf.sum(x, axes, keep),
    clip: ([x], { low, high }) => tf.clipByValue(x, low, high),
    linear: ([x, weight, bias]) => tf.add(tf.matMul(x, weight), bias),
    convolution: ([x, filters, bias], { stride, padding }) =>
      channelsFirst(tf.add(tf.conv2d(channelsLast(x), filters, stride, padding), bias)),
    transposed_convolution: ([x, filters, bias], { shape, stride, padding }) =>
      channelsFirst(tf.add(tf.conv2dTranspose(channelsLast(x), filters, shape, stride, padding), bias)),
    pixel_shuffle: ([x], { factor, shape }) => {
      const [n, channels, height, width] = x.shape;
      const apart = tf.reshape(x, [n, channels / factor ** 2, factor, factor, height, width]);
      return tf.reshape(tf.transpose(apart, [0, 1, 4, 2, 5, 3]), shape);
    },
  };

  /** The number that 16 bits stand for in half precision. */
  function half(bits) {
    const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
  }

  /** Constants as tensors: shapes, and their numbers one after the other in base64. */
  function constants(shapes, data) {
    const bytes = Uint8Array.from(atob(data), (sign) => sign.charCodeAt(0)), view = new DataView(bytes.buffer);
    let at = 0;
    return shapes.map(([shape, width]) => {
      const numbers = new Float32Array(shape.reduce((product, side) => product * side, 1));
      for (let i = 0; i < numbers.length; i++, at += width) {
        numbers[i] = width === 2 ? half(view.getUint16(at, true)) : view.getFloat32(at, true);
      }
      return tf.tensor(numbers, shape);
    });
  }

  /** The function that a record describes: numbers of a tensor of that shape to one array of numbers for each output. */
  function compiled(record) {
    let made = null; // unpacked when it is first used
    return (numbers, shape) => tf.tidy(() => {
      made = made || constants(record.constants, record.data).map((constant) => tf.keep(constant));
      const values = [tf.tensor(numbers, shape), ...made];
      for (const [name, inputs, options] of record.steps) {
        const run = OPERATIONS[name] || ((given) => tf[name](...given));
        values.push(run(inputs.map((place) => values[place]), options));
      }
      return record.outputs.map((place) => values[place].dataSync());
    });
  }

  return { compiled };
})();
