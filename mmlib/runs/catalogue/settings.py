"""Settings that recipes of several data sets share."""

RATES = (0.5, 2.0)  # times the learning rate of a recipe: the grid of rates has these beside it
GAUSSIAN = {
    "posterior": "normal",
    "scale": "softplus",
    "learn_prior": False,
}  # MMVAE's codes in Joy et al. 2022
HELD_OUT = "a sixth of MNIST's and a tenth of SVHN's training part are held out for validation"
KNOBS = {  # by the ending of a recipe, the one option that its method is known to need, and values beside the recipe's
    "jmvae": ("alpha", (0.01, 1.0)),
    "telbo": ("beta", (0.5, 2.0)),
    "mvae": ("beta", (0.5, 2.0)),
    "mmvae-iwae": ("k", (2, 4)),  # of the ELBO more draws change the noise alone
    "mopoe": ("beta", (0.5, 2.0)),
    "mmjsd": ("beta", (0.5, 2.0)),
    "ci-jmvae": ("gamma", (1.0, 4.0)),
    "ci-mvae": ("gamma", (1.0, 4.0)),
    "ci-mmvae": ("gamma", (1.0, 4.0)),
    "ci-mopoe": ("gamma", (1.0, 4.0)),
    "ci-mmjsd": ("gamma", (4.5, 18.0)),
    "meme": ("alpha", (1.0, 5.0)),
    "mmali": ("multiplier", (1.0, 2.0)),
}

# --- MMALI, as in Chen and Zhu 2022: codes are 10 numbers of style and 10 of content throughout ----------------------

ADAM = {"batch_size": 64, "betas": (0.5, 0.999)}
JOINT = {"style_dim": 10, "discriminator": "joint"}
FACTORISED = {"style_dim": 10, "unimodal": 0.1}  # a term of the released code
BINARY = {**FACTORISED, "factors": "binary"}
MULTIWAY = {**FACTORISED, "factors": "multiway"}

# Minutes on one thread: with the paper's learning rate small networks learn too slowly, and with its largest singular
# value of 1 they drift. Every update of either discriminator sees one minibatch, so that both are given the same data.
QUICK = {**ADAM, "learning_rate": 1e-3, "ema": 0.999, "ema_ramp": True}
SHORT = "embedded digits of {}x{} pixels, small networks, {} steps in place of 250,000"

# The paper's budget: 250,000 steps of 64 rows. What the paper leaves open is as in the released code: (M+1)-way D0,
# initial weights, power iterations, an average that is a copy of the weights for 50,000 steps (and one, since steps are
# counted from 0 there), and two minibatches an update of the factorised discriminator, of which the joint one uses one.
PAPER = {
    **ADAM,
    "reduced": HELD_OUT,
    "faithful": True,
    "learning_rate": 2e-4,
    "ema": 0.9999,
    "ema_start": 50_001,
    "steps": 250_000,
}
RELEASED = {"init_std": 0.02, "power_iterations": "released"}
