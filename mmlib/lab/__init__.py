"""The laboratory: small models whose every probability is known, against which the library is tested.

`LinearGaussian` has closed forms for any number of modalities, latent dimensions and styles. `quadrature` integrates
over a one-dimensional latent to near machine precision, so that Laplace and categorical likelihoods, Laplace
posteriors and mixtures have exact answers too, finite sample sizes included. `modalities` gives the linear-Gaussian
model the library's own interface, so that every model class can be tested where the truth is known.
"""

from mmlib.lab import quadrature
from mmlib.lab.linear_gaussian import LinearGaussian, View
from mmlib.lab.networks import joint_encoder, modalities
