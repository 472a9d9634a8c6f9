"""The models, one file each; ``MODELS`` finds them by name."""

from mmlib.checks import look_up
from mmlib.models.base import Codes, Draws, MultimodalVAE
from mmlib.models.contrastive import (
    Contrastive,
    ContrastiveJMVAE,
    ContrastiveMMJSD,
    ContrastiveMMVAE,
    ContrastiveMoPoE,
    ContrastiveMVAE,
)
from mmlib.models.jmvae import JMVAE
from mmlib.models.meme import MEME
from mmlib.models.mmali import MMALI
from mmlib.models.mmjsd import MMJSD
from mmlib.models.mmvae import MMVAE
from mmlib.models.mopoe import MoPoE
from mmlib.models.mvae import MVAE
from mmlib.models.telbo import TELBO

MODELS = {
    "jmvae": JMVAE,
    "mvae": MVAE,
    "mmvae": MMVAE,
    "telbo": TELBO,
    "mopoe": MoPoE,
    "mmjsd": MMJSD,
    "meme": MEME,
    "contrastive_jmvae": ContrastiveJMVAE,
    "contrastive_mvae": ContrastiveMVAE,
    "contrastive_mmvae": ContrastiveMMVAE,
    "contrastive_mopoe": ContrastiveMoPoE,
    "contrastive_mmjsd": ContrastiveMMJSD,
    "mmali": MMALI,
}


def get_model(name: str) -> type[MultimodalVAE] | type[MMALI]:
    """The model class of that name.

    Raises:
        ValueError: if the name is unknown.
    """
    return look_up("model", name, MODELS)
