"""Does a sigmoid network without normalization start as nearly a constant function?

Arms: ``none``, ``bn``, ``layer`` and ``group`` at the notes' settings; the same 256
training images pass at the start and at moments of early training.

Cost: 21.1 M image-passes at the standard size, of which 17.6 M (``none`` and ``bn``) are shared
with ``convergence``: 2 arms x 16 seeds x 110,000 are its own.

Expected: without normalization the last hidden layer hardly differs between
images, and its outputs point the same way; with batch normalization they differ.
The less it differs, the longer the plateau before the network learns anything.

Command: ``bnstudy run collapse``

Source: Daneshmand et al. 2020; Labatie 2019.
"""

from typing import Any

from bnstudy.plan import Arm, Claim, Estimand, Exhibit, Experiment, Option, Profile, Variant

from .baseline import GEOMETRY_EPOCHS as EPOCHS
from .baseline import GEOMETRY_LAYERS as LAYERS
from .baseline import baseline_arm, geometry_probe
from .common import T_TEST, groups, notes_for_steps

LABELS = {"none": "no norm", "bn": "BN", "layer": "layer norm", "group": "group norm"}
LAST = "act4"
PLATEAU_END = 0.3  # of validation accuracy: three times guessing


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return no normalization and three kinds of it, measured early in training."""
    base = notes_for_steps(profile).replace(epochs=EPOCHS[profile.name])
    return tuple(
        baseline_arm(profile, norm, label)
        if norm in ("none", "bn")
        else Arm(norm, base.replace(norm=norm), label, probes=geometry_probe(profile))
        for norm, label in LABELS.items()
    )


def at_start(stat: str) -> dict[str, Option]:
    """Return the options that read a statistic of the last hidden layer at the start."""
    return {"probe": "geometry", "stat": stat, "layer": LAST, "end": 0.0}


def bn_against_none(stat: str, scale: str) -> Estimand:
    """Return BN against no normalization in a statistic at the start."""
    return Estimand("probe", groups("bn", "none"), at_start(stat), scale=scale)


AT_START = (
    Claim(
        id="collapse-share",
        sentence="At the start a larger share of the last hidden layer's energy varies across "
        "images with BN than without",
        source="Labatie 2019; Daneshmand et al. 2020",
        estimand=bn_against_none("varying_share", "ratio"),
        direction="greater",
        robustness=(
            Variant("ten times as large", centre=10.0),
            *(Variant(f"in {layer}", {"layer": layer}) for layer in LAYERS[:-1]),
        ),
    ),
    Claim(
        id="collapse-cosine",
        sentence="At the start the last hidden layer's outputs for two images are less alike "
        "in direction with BN than without",
        source="Daneshmand et al. 2020",
        estimand=bn_against_none("cosine", "difference"),
        unit="of cosine",
        direction="less",
        robustness=(T_TEST,),
    ),
    Claim(
        id="collapse-rank",
        sentence="At the start the last hidden layer's outputs have a higher stable rank with "
        "BN than without",
        source="Daneshmand et al. 2020",
        estimand=bn_against_none("stable_rank", "ratio"),
        direction="greater",
        robustness=(Variant("of what varies", {"stat": "centred_rank"}),),
    ),
)

SMALLER_SHARE = (
    "the smaller the share of the last hidden layer's energy that varies at the start, "
    "the longer the plateau"
)
# not judged: four arms differ in more than the share, and 16 seeds fix no correlation
PLATEAU: dict[str, Any] = {
    "source": "Daneshmand et al. 2020; Labatie 2019",
    "unit": "rank correlation",
    "direction": "less",
    "test": "t",
    "family": "explored",
    "robustness": (
        Variant("plateau up to 20%", {"target": 0.2}),
        Variant("plateau up to 50%", {"target": 0.5}),
    ),
}


def claims(profile: Profile) -> tuple[Claim, ...]:
    """Return the claims about the start, and those about the plateau that follows."""

    def with_plateau(*arms: str) -> Estimand:
        return Estimand(
            "steps-to-target",
            (arms,),
            {"target": PLATEAU_END, "epochs": EPOCHS[profile.name]},
            summary="correlation",
            against="probe",
            against_options=at_start("varying_share"),
        )

    return (
        Claim(
            id="collapse-plateau",
            sentence=f"Among the {len(LABELS)} kinds of network of a seed, {SMALLER_SHARE}",
            estimand=with_plateau(*LABELS),
            **PLATEAU,
        ),
        Claim(
            id="collapse-plateau-none",
            sentence=f"Among the seeds without normalization, {SMALLER_SHARE}",
            estimand=with_plateau("none"),
            **PLATEAU,
        ),
        *AT_START,
    )


COLLAPSE = Experiment(
    name="collapse",
    title="Does a network without normalization start as a constant?",
    question=(
        "A network whose last hidden layer gives the same for every image can only learn the "
        "frequencies of classes. Does a sigmoid LeNet start like that, and does normalization "
        "prevent it?"
    ),
    literature=(
        "Daneshmand et al. (2020) prove that with depth the hidden layers of networks lose rank, "
        "and that batch normalization avoids it. Labatie (2019) follows the share of signal that "
        "varies between inputs through random networks."
    ),
    design=(
        "LeNet with sigmoids at the notes' settings, with no, batch, layer and group "
        "normalization; a seed gives all arms the same weights. The same 256 training images pass "
        "in training mode; of each sigmoid's outputs the share of energy that varies across "
        "images, the mean cosine of pairs and the stable rank are taken. The plateau at the start "
        "is the steps until validation accuracy reaches 30%, three times guessing. "
        "Its rank correlation with the share is taken twice: over the four arms of a seed, with "
        "the mean of the seeds and its interval, and over the seeds of the arm without "
        "normalization, with a jackknife interval (which with 16 seeds covers about 90 %, not 95)."
    ),
    limits=(
        "Four hidden layers are not the depth of the theory. Sigmoids have means above 0, so "
        "cosines are high with every normalization. That the plateau follows from the collapse is "
        "not tested: no arm changes the share alone. Four arms also differ in all else that "
        "normalization does, and the interval of their correlation is about seeds, not about other "
        "kinds of network; within one arm the share varies little. Plateaus are read five times an "
        "epoch, so many are tied."
    ),
    arms=arms,
    claims=claims,
    exhibits=(
        *(
            Exhibit(
                "layer-lines",
                caption,
                {
                    "probe": "geometry",
                    "layers": LAYERS,
                    "tensor": "out",
                    "stat": stat,
                    "label": label,
                    **scale,
                },
            )
            for stat, label, scale, caption in (
                (
                    "varying_share",
                    "Share that varies",
                    {"log": True},
                    "Share of each sigmoid's energy that varies across images, logarithmic.",
                ),
                ("cosine", "Mean cosine", {}, "Mean cosine of the outputs for two images."),
                ("stable_rank", "Stable rank", {}, "Stable rank of the outputs for 256 images."),
            )
        ),
        Exhibit("learning-curves", "Validation accuracy of the same runs.", {}),
    ),
)
