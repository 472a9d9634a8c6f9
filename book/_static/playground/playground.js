// The playground: a drawing and a house number go in, and every recorded model answers. Models and items come from
// models.js, which the build writes; network.js runs them. Nothing is fetched, nothing leaves the page.
(async () => {
  const SIDE = 16; // pixels of what the models see
  const FINE = 4; // a drawing is rendered so many times finer, then averaged
  const PEN = { path: [10.4, 12.7], outer: 3.4, inner: 1.9, ink: 235 }; // as the handwriting of the data: its size and pen
  const NAMES = { hand: "handwriting", street: "house number" };
  const SOURCES = { hand: "your drawing", street: "house number" };
  const OTHER = { hand: "street", street: "hand" };
  const place = document.querySelector(".playground");

  /** A new element with attributes and children. */
  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
    made.append(...children);
    return made;
  }

  const picture = (label) => element("canvas", { width: SIDE, height: SIDE, role: "img", "aria-label": label });

  /** Show an item, numbers in [0, 1] in order of channel, row, column. */
  function paint(canvas, numbers) {
    const area = SIDE * SIDE, colours = numbers.length / area, image = new ImageData(SIDE, SIDE);
    for (let i = 0; i < area; i++) {
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = 255 * numbers[colours === 3 ? c * area + i : i];
      image.data[4 * i + 3] = 255;
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  // --- what goes in -------------------------------------------------------------------------------------------------

  const inputs = { hand: { version: 0 }, street: { version: 0 } };

  function give(source, numbers) {
    inputs[source] = { numbers, version: inputs[source].version + 1 };
    paint(views[source], numbers);
    refresh();
  }

  let strokes = []; // of points [x, y], from 0 to 1
  const views = { hand: picture("The drawing as the models see it"), street: picture("The house number") };
  const board = element("canvas", {
    width: 256, height: 256, tabindex: 0, role: "application", class: "playground-board",
    "aria-label": "Drawing board", "aria-describedby": "playground-keys",
  });
  const pen = board.getContext("2d");

  function line(context, points) {
    context.beginPath();
    points.forEach((stroke) => {
      context.moveTo(...stroke[0]);
      stroke.forEach((point) => context.lineTo(...point));
    });
    context.stroke();
  }

  function showBoard() {
    pen.fillStyle = "black";
    pen.fillRect(0, 0, 256, 256);
    if (!strokes.length) {
      Object.assign(pen, { fillStyle: "gray", font: "20px sans-serif", textAlign: "center" });
      pen.fillText("draw here", 128, 134);
    }
    Object.assign(pen, { lineCap: "round", lineJoin: "round", lineWidth: 26, strokeStyle: "white" });
    line(pen, strokes.map((stroke) => stroke.map(([x, y]) => [256 * x, 256 * y])));
    if (document.activeElement === board && board.matches(":focus-visible")) { // where the pen of the keyboard is
      pen.fillStyle = keys.down ? "orange" : "gray";
      pen.fillRect(256 * keys.at[0] - 5, 256 * keys.at[1] - 5, 10, 10);
    }
  }

  /** The drawing as the data has its handwriting: moved to the middle, enlarged to its height, drawn with its pen. */
  function rendered() {
    const points = strokes.flat(), fine = element("canvas", { width: SIDE * FINE, height: SIDE * FINE });
    const context = fine.getContext("2d", { willReadFrequently: true });
    context.fillRect(0, 0, SIDE * FINE, SIDE * FINE);
    if (points.length) {
      const ends = [0, 1].map((axis) => points.map((point) => point[axis])).map((all) => [Math.min(...all), Math.max(...all)]);
      const room = ends.map(([low, high], axis) => PEN.path[axis] / Math.max(high - low, 1e-3));
      const scale = Math.min(...room, 4 * SIDE); // a dot stays a dot
      const moved = strokes.map((stroke) => stroke.map((point) => point.map(
        (x, axis) => FINE * (SIDE / 2 + scale * (x - (ends[axis][0] + ends[axis][1]) / 2)))));
      for (const [width, ink] of [[PEN.outer, PEN.ink / 2], [PEN.inner, PEN.ink]]) {
        const strokeStyle = `rgb(${ink} ${ink} ${ink})`;
        Object.assign(context, { lineCap: "round", lineJoin: "round", lineWidth: FINE * width, strokeStyle });
        line(context, moved);
      }
    }
    const data = context.getImageData(0, 0, SIDE * FINE, SIDE * FINE).data, numbers = new Float32Array(SIDE * SIDE);
    for (let i = 0; i < data.length / 4; i++) {
      const row = Math.floor(i / (SIDE * FINE * FINE)), column = Math.floor((i % (SIDE * FINE)) / FINE);
      numbers[row * SIDE + column] += data[4 * i] / 255 / FINE ** 2;
    }
    return numbers;
  }

  function drawn() {
    showBoard();
    press("hand", null);
    give("hand", rendered());
  }

  function clear() {
    strokes = [];
    drawn();
  }

  board.addEventListener("pointerdown", (event) => {
    board.setPointerCapture(event.pointerId);
    strokes.push([at(event)]);
    drawn();
  });
  board.addEventListener("pointermove", (event) => {
    if (!board.hasPointerCapture(event.pointerId)) return;
    strokes[strokes.length - 1].push(at(event));
    drawn();
  });

  function at(event) {
    const box = board.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  const keys = { at: [0.5, 0.5], down: false };
  const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  board.addEventListener("keydown", (event) => {
    if (event.key in MOVES) {
      keys.at = keys.at.map((x, axis) => Math.min(1, Math.max(0, x + MOVES[event.key][axis] / 20)));
      if (keys.down) strokes[strokes.length - 1].push(keys.at);
    } else if (event.key === " ") {
      keys.down = !keys.down;
      if (keys.down) strokes.push([keys.at]);
      say(keys.down ? "Pen down" : "Pen up");
    } else if (["Delete", "Backspace", "Escape"].includes(event.key)) {
      keys.down = false;
      return clear();
    } else return;
    event.preventDefault();
    keys.down ? drawn() : showBoard();
  });
  board.addEventListener("focus", showBoard);
  board.addEventListener("blur", () => { keys.down = false; showBoard(); });

  /** The items of a modality, numbers in [0, 1], ten at a time, one for each digit. */
  const items = Object.fromEntries(Object.entries(PLAYGROUND.examples).map(([name, list]) => [name, list.map(
    ([digit, pixels]) => [digit, Float32Array.from(atob(pixels), (sign) => sign.charCodeAt(0) / 255)])]));
  const buttons = {};
  const shown = { hand: 0, street: 0 };

  /** Buttons with one item of each digit, and one that shows others. */
  function choices(source) {
    buttons[source] = Array.from({ length: 10 }, (_, digit) => {
      const button = element("button", { type: "button", "aria-pressed": "false" }, picture(`${NAMES[source]} ${digit}`));
      button.addEventListener("click", () => choose(source, digit));
      return button;
    });
    const others = element("button", { type: "button", class: "playground-text" }, "others");
    others.setAttribute("aria-label", `Show other items: ${NAMES[source]}`);
    others.addEventListener("click", () => {
      shown[source] += 1;
      press(source, null);
      lay(source);
    });
    lay(source);
    const label = `${NAMES[source]} of the validation split`;
    return element("div", { class: "playground-choices", role: "group", "aria-label": label }, ...buttons[source], others);
  }

  function item(source, digit) {
    const own = items[source].filter(([label]) => label === digit);
    return own[shown[source] % own.length][1];
  }

  const lay = (source) => buttons[source].forEach((button, digit) => paint(button.firstChild, item(source, digit)));
  const press = (source, digit) => buttons[source].forEach((button, i) => button.setAttribute("aria-pressed", i === digit));

  function choose(source, digit) {
    if (source === "hand") {
      strokes = [];
      showBoard();
    }
    press(source, digit);
    give(source, item(source, digit));
  }

  // --- what comes out -----------------------------------------------------------------------------------------------

  /** A model's card: its networks, and a table of what it answers. */
  function card(model) {
    const row = (name, label) => {
      const cells = {
        street: picture(`${model.title}: ${label} as house number`),
        hand: picture(`${model.title}: ${label} as handwriting`),
        code: document.createElementNS("http://www.w3.org/2000/svg", "svg"),
      };
      cells.code.setAttribute("role", "img");
      cells.code.setAttribute("preserveAspectRatio", "none");
      cells.code.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
      if (OTHER[name]) cells[OTHER[name]].classList.add("playground-new");
      const line = element("tr", {}, element("th", { scope: "row" }, label),
        ...["street", "hand", "code"].map((kind) => element("td", {}, cells[kind])));
      return { cells, line, label };
    };
    const rows = { hand: row("hand", SOURCES.hand), street: row("street", SOURCES.street), between: row("between", "between") };
    const head = element("tr", {}, element("td"),
      ...["as house number", "as handwriting", "code"].map((text) => element("th", { scope: "col" }, text)));
    const name = model.page ? element("a", { href: model.page }, model.title) : model.title;
    const body = element("tbody", {}, ...Object.values(rows).map(({ line }) => line));
    const section = element("section", { "aria-label": model.title, style: `border-color: ${model.colour}` },
      element("h3", {}, name), element("table", {}, element("thead", {}, head), body));
    const networks = (records) => Object.fromEntries(
      Object.entries(records).map(([kind, record]) => [kind, network.compiled(record)]));
    return { model, rows, section, read: networks(model.read), draw: networks(model.draw), codes: {}, seen: {} };
  }

  const shape = (name) => [1, ...PLAYGROUND.shapes[name]];

  /** The item of a modality that a model draws of a code and a style. */
  function decoded(card, name, content, style) {
    const code = [...style, ...content];
    return card.draw[name](Float32Array.from(code), [1, code.length])[0];
  }

  function showCode({ cells, label }, card, numbers) {
    const most = Math.max(1e-6, ...Object.values(card.codes).flatMap((code) => [...code.content, ...code.style]).map(Math.abs));
    const bars = numbers.map((x, i) => `M${4 * i} 0h3v${(-20 * x / most).toFixed(2)}h-3z`);
    cells.code.setAttribute("viewBox", `-1 -21 ${4 * numbers.length + 1} 42`);
    cells.code.firstChild.setAttribute("d", bars.join(""));
    const [low, high] = [Math.min(...numbers), Math.max(...numbers)].map((x) => x.toFixed(1));
    cells.code.setAttribute("aria-label", `${card.model.title}: code of ${label}, ${numbers.length} numbers from ${low} to ${high}`);
  }

  /** Everything that a model says of the inputs as they are. */
  function answer(card) {
    for (const source of ["hand", "street"]) {
      const { numbers, version } = inputs[source], { cells } = card.rows[source], other = OTHER[source];
      if (card.seen[source] === version) continue;
      const [content, style] = card.read[source](numbers, shape(source));
      card.codes[source] = { content, style };
      card.seen[source] = version;
      paint(cells[source], decoded(card, source, content, style));
      paint(cells[other], decoded(card, other, content, card.model.style[other]));
      showCode(card.rows[source], card, [...style, ...content]);
    }
    const walk = slider.value / 100, { hand, street } = card.codes, { cells } = card.rows.between;
    const content = hand.content.map((x, i) => (1 - walk) * x + walk * street.content[i]);
    for (const name of ["hand", "street"]) paint(cells[name], decoded(card, name, content, card.codes[name].style));
    showCode(card.rows.between, card, [...content]);
  }

  const stale = new Set();
  let working = false, next = 0;

  /** The next model to answer: of those that have to, in turn, first the ones on the screen. */
  function turn() {
    const waiting = cards.map((_, i) => cards[(next + i) % cards.length]).filter((card) => stale.has(card));
    const onScreen = ({ section }) => {
      const { top, bottom } = section.getBoundingClientRect();
      return bottom > 0 && top < innerHeight;
    };
    const chosen = waiting.find(onScreen) || waiting[0];
    next = cards.indexOf(chosen) + 1;
    return chosen;
  }

  /** Let every model answer, one after the other, with room for the browser in between. */
  async function refresh() {
    cards.forEach((card) => stale.add(card));
    if (working || !inputs.hand.version || !inputs.street.version) return;
    working = true;
    place.setAttribute("aria-busy", "true");
    const begin = performance.now();
    while (stale.size) {
      const card = turn();
      stale.delete(card);
      answer(card);
      await new Promise((done) => setTimeout(done));
    }
    working = false;
    place.setAttribute("aria-busy", "false");
    say(`${cards.length} models have answered, in ${Math.round(performance.now() - begin)} ms.`);
  }

  const status = element("p", { role: "status", "aria-live": "polite", class: "playground-status" });
  const say = (text) => { status.textContent = text; };

  const slider = element("input", { type: "range", min: 0, max: 100, value: 50, id: "playground-walk" });
  slider.addEventListener("input", () => {
    slider.setAttribute("aria-valuetext", `${slider.value} per cent of the way`);
    refresh();
  });

  const wipe = element("button", { type: "button", class: "playground-text" }, "clear");
  wipe.addEventListener("click", clear);

  await tf.setBackend("cpu");
  const cards = PLAYGROUND.models.map(card);
  const group = (title, ...content) => element("section", { "aria-label": title }, element("h2", {}, title), ...content);
  place.replaceChildren(
    element("div", { class: "playground-inputs" },
      group("Draw a digit",
        element("div", { class: "playground-pair" }, board, views.hand, wipe),
        element("p", { id: "playground-keys" },
          "With mouse or finger. By keyboard: arrows move the pen, space lowers and lifts it, delete clears. Or take one:"),
        choices("hand")),
      group("Take a house number", element("div", { class: "playground-pair" }, views.street), choices("street"),
        element("h2", {}, element("label", { for: slider.id }, "Walk from code to code")),
        element("div", { class: "playground-walk" }, "drawing", slider, "house number"), status)),
    element("div", { class: "playground-models" }, ...cards.map(({ section }) => section)));
  choose("street", 7);
  choose("hand", 3);
})();
