"""Does a sigmoid network without normalization start as nearly a constant function?

Arms: ``none``, ``bn``, ``layer`` and ``group`` at the notes' settings; the same 256
training images pass at the start and at moments of early training.

Cost: 21.1 M image-passes at the standard size, of which 17.6 M (``none`` and ``bn``) are shared
with ``convergence``: 2 arms x 16 seeds x 110,000 are its own.

Expected: without normalization the last hidden layer hardly differs between
images, and its outputs point the same way; with batch normalization they differ.
The less it differs, the longer the plateau before the network learns anything.

Run it: ``python -m experiments.collapse`` or ``bnstudy run collapse``.

Source: Daneshmand et al. 2020; Labatie 2019.
"""

from typing import Any

from bnstudy.plan.claim import Claim, Estimand, Option, Variant
from bnstudy.plan.plan import Arm, Exhibit, Experiment, Profile
from experiments.common import fine, registers
from experiments.plain import GEOMETRY_EPOCHS as EPOCHS
from experiments.plain import GEOMETRY_LAYERS as LAYERS
from experiments.plain import geometry, plain

LABELS = {"none": "no norm", "bn": "BN", "layer": "layer norm", "group": "group norm"}
LAST = "act4"
PLATEAU_END = 0.3  # of validation accuracy: three times guessing


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return no normalization and three kinds of it, looked at early."""
    base = fine(profile).replace(epochs=EPOCHS[profile.name])
    return tuple(
        plain(profile, norm, label)
        if norm in ("none", "bn")
        else Arm(norm, base.replace(norm=norm), label, probes=geometry(profile))
        for norm, label in LABELS.items()
    )


def claims(profile: Profile) -> tuple[Claim, ...]:
    """Register that BN keeps images apart at the start, and none does not."""
    if not registers(profile):
        return ()

    def at_start(stat: str, scale: str) -> Estimand:
        options: dict[str, Option] = {"probe": "geometry", "stat": stat, "layer": LAST, "end": 0.0}
        return Estimand("probe", (("bn",), ("none",)), options, scale=scale)

    def with_plateau(*arms: str) -> Estimand:
        return Estimand(
            "steps-to-target",
            (arms,),
            {"target": PLATEAU_END, "epochs": EPOCHS[profile.name]},
            summary="correlation",
            against="probe",
            against_options=at_start("varying_share", "difference").options,
        )

    share = "the smaller the share of the last hidden layer's energy that varies at the start, "
    # not judged: four arms differ in more than the share, and 16 seeds fix no correlation
    plateau: dict[str, Any] = {
        "source": "Daneshmand et al. 2020; Labatie 2019",
        "unit": "rank correlation",
        "direction": "less",
        "test": "t",
        "family": "exploratory",
        "robustness": tuple(
            Variant(f"plateau up to {end:.0%}", {"target": end}) for end in (0.2, 0.5)
        ),
    }
    return (
        Claim(
            id="collapse-plateau",
            sentence=f"Among the {len(LABELS)} kinds of network of a seed, {share}the longer the "
            "plateau",
            estimand=with_plateau(*LABELS),
            **plateau,
        ),
        Claim(
            id="collapse-plateau-none",
            sentence=f"Among the seeds without normalization, {share}the longer the plateau",
            estimand=with_plateau("none"),
            **plateau,
        ),
        Claim(
            id="collapse-share",
            sentence="At the start a larger share of the last hidden layer's energy varies across "
            "images with BN than without",
            source="Labatie 2019; Daneshmand et al. 2020",
            estimand=at_start("varying_share", "ratio"),
            unit="times",
            direction="greater",
            test="sign-flip",
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
            estimand=at_start("cosine", "difference"),
            unit="of cosine",
            direction="less",
            test="sign-flip",
            robustness=(Variant("t test", test="t"),),
        ),
        Claim(
            id="collapse-rank",
            sentence="At the start the last hidden layer's outputs have a higher stable rank with "
            "BN than without",
            source="Daneshmand et al. 2020",
            estimand=at_start("stable_rank", "ratio"),
            unit="times",
            direction="greater",
            test="sign-flip",
            robustness=(Variant("of what varies", {"stat": "centred_rank"}),),
        ),
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
        f"is the steps until validation accuracy reaches {PLATEAU_END:.0%}, three times guessing. "
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

if __name__ == "__main__":
    from bnstudy.cli import main

    main(["run", COLLAPSE.name])  # type: ignore[has-type]
