"""Tables of what is recorded of the real captions of CUB, for the chapter on captions and birds."""

from mmlib.book import cub_captions
from mmlib.plots.results import Table, table


def real_captions() -> Table:
    """What is recorded of the captions of CUB."""
    found = cub_captions.recorded()
    body = [[name, f"{value:,}"] for name, value in found["counts"].items()]
    body += [[f"nearest to `{word}`", ", ".join(near)] for word, near in found["nearest words"].items()]
    for convention, pairs in found["agreement"].items():
        body += [[f"two captions of {label}, {convention}", f"{value:.3f}"] for label, value in pairs.items()]
    recipe_ = ", ".join(f"{key} {value}" for key, value in found["recipe"].items() if key != "command")
    caption = f"Captions of CUB, measured {found['date']} by `{found['recipe']['command']}` ({recipe_})"
    return table(["CUB", "measured"], body, text=["measured"], caption=caption)


def real_codes() -> Table:
    """What a VAE makes of the captions of CUB, beside models that only count words."""
    found = cub_captions.recorded().get("codes")
    if found is None:
        return table(["CUB, test classes", "measured"], [["a VAE of captions", "not measured yet"]])
    size = f"{found['recipe']['latent_dim']} numbers"
    body = [[f"nats a word: {name}", f"{value:.2f}", None] for name, value in found["nats a word"].items()]
    body += [[f"code of {size}: {name}", f"{value:g}", None] for name, value in found["code"].items()]
    body += [
        [f"nearer than another class: {name}", *(f"{pairs[end]:.0%}" for end in ("one picture", "one class"))]
        for name, pairs in found["nearer"].items()
    ]
    recipe_ = ", ".join(f"{key} {value}" for key, value in found["recipe"].items() if key != "command")
    caption = f"Measured {found['date']} by `{found['recipe']['command']}` ({recipe_}); {found['hardware']}"
    return table(["CUB, test classes", "captions, or of one picture", "of one class"], body, caption=caption)


def told_of_codes() -> str:
    """What the numbers of `real_codes` say, in sentences."""
    found = cub_captions.recorded().get("codes")
    if found is None:
        return "A VAE of real captions: not measured yet."
    nats, near = dict(found["nats a word"]), found["nearer"]
    (name,) = [name for name in nats if "draws" in name]
    vae = nats.pop(name)
    counted = {name: value for name, value in nats.items() if name.startswith("words")}
    sides = [[name for name, value in counted.items() if (value > vae) == more] for more in (True, False)]
    words = [
        f"{side} than counting {' and '.join(names)}"
        for side, names in zip(("fewer", "more"), sides, strict=True)
        if names
    ]
    lines = [f"The VAE spends {vae:.2f} nats a word, {', '.join(words)}."]
    kl, used, own, other = found["code"].values()
    size = found["recipe"]["latent_dim"]
    lines.append(
        f"Its code tells {kl:.1f} nats a caption, in {used} of its {size} numbers; the first two words explain "
        f"{own:.0%} of the fullest one's variance, those of another caption {other:.0%}."
    )
    for label, pairs in near.items():
        shares = ", ".join(f"{value:.0%} of pairs of {end}" for end, value in pairs.items())
        lines.append(f"Nearer than another class, by {label}: {shares}.")
    return "\n".join(lines)
