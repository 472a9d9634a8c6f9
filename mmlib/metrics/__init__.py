"""Metrics: each equation one function that returns one number an item, and one call that runs them all."""

from mmlib.metrics.attribute_judges import (
    AttributeJudges,
    average_precision,
    average_precisions,
    fit_attribute_judges,
    spelling,
)
from mmlib.metrics.attributes import evaluate_attributes, generated_precisions, latent_precisions
from mmlib.metrics.caption_judges import CaptionJudges, fit_caption_judges
from mmlib.metrics.captions import (
    cross_correlation,
    evaluate_captions,
    generated_pair,
    surest_captions,
)
from mmlib.metrics.cca import Projection, cca_score, fit_cca
from mmlib.metrics.classifiers import Classifiers, train_classifiers
from mmlib.metrics.codes import (
    class_distances,
    evaluate_relatedness,
    joint_map,
    relatedness,
    tree,
    unimodal_posteriors,
    wasserstein,
)
from mmlib.metrics.coherence import (
    classes_generated,
    cross_coherence,
    joint_coherence,
    prior_predictions,
    released_joint_coherence,
    synergy_coherence,
)
from mmlib.metrics.estimates import clustered_standard_error, estimate
from mmlib.metrics.likelihood import (
    conditional_log_likelihood,
    evaluate_likelihoods,
    importance_log_likelihood,
    laplace_ceiling,
    log_conditional,
    log_marginal,
)
from mmlib.metrics.mutual_information import (
    GaussianProcessJudge,
    evaluate_mutual_information,
    gaussian_process_judge,
    mutual_information_score,
    with_processes,
)
from mmlib.metrics.pmi import estimate_pmi, pmi_by_k, pointwise_mutual_information
from mmlib.metrics.prd import (
    f_scores,
    generation_curves,
    generation_quality,
    histograms,
    mean_of_curve,
    precision_recall,
    precision_recall_curve,
)
from mmlib.metrics.probes import Probe, fit_probe, latent_accuracy
from mmlib.metrics.puppets import Puppet
from mmlib.metrics.report import Report, evaluate, format_report
from mmlib.metrics.sentences import (
    main_direction,
    plain_weights,
    sentence_vectors,
    sif_weights,
    without,
    word_vectors,
)
from mmlib.metrics.siamese import Siamese, hadsell_loss, siamese_for
from mmlib.metrics.style_content import posterior_scales, released_coherence, style_content_accuracy
from mmlib.metrics.threshold import best_threshold, f1_score, threshold_quality
