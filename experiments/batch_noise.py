"""Does the noise of batch statistics fall with the root of the batch size?

Arm: ``bn`` at the notes' settings, one network a seed.  The noise is measured by
random batches of 4 to 1,024 training images, before training and after some epochs.

Cost: 8.8 M image-passes at the standard size, all shared with ``convergence``; its own are
1.0 M forward passes for the noise.

Expected: images of a batch are independent, so the noise falls as B^(-1/2).

Run it: ``python -m experiments.batch_noise`` or ``bnstudy run batch-noise``.

Source: Luo, Wang, Shao & Peng 2019; Teye, Azizpour & Smith 2018.
"""

from bnstudy.plan.claim import Claim, Estimand, Option, Variant
from bnstudy.plan.plan import Arm, Exhibit, Experiment, Profile
from experiments.common import pilot, registers
from experiments.plain import plain

LAYERS = ("norm1", "norm2", "norm3", "norm4")
MARGIN = 0.05
# slopes on pilot seeds: mean, standard deviation
PILOT = {
    ("mean", "initial"): (-0.4923, 0.005341),
    ("mean", "trained"): (-0.4923, 0.00462),
    ("sd", "initial"): (-0.5217, 0.004157),
    ("sd", "trained"): (-0.522, 0.003911),
}


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return batch normalization at the notes' settings."""
    return (plain(profile, "bn", "BN"),)


def claims(profile: Profile) -> tuple[Claim, ...]:
    """Register slopes of -1/2, for mean and SD, before training and after it."""
    if not registers(profile):
        return ()
    made = []
    for of, word in (("mean", "mean"), ("sd", "standard deviation")):
        for moment, words in (
            ("initial", "at initial weights"),
            ("trained", "at trained weights"),
        ):
            when: dict[str, Option] = {"end": 0.0} if moment == "initial" else {"take": "last"}
            options = {"probe": "batch-noise", "stat": f"{of}_slope", **when}
            made.append(
                Claim(
                    id=f"noise-law-{of}-{moment}",
                    sentence=f"The noise of a batch's {word} falls as B^(-1/2) {words}",
                    source="Luo et al. 2019; Teye et al. 2018",
                    estimand=Estimand("probe", (("bn",),), options),
                    unit="decades of noise per decade of batch size",
                    direction="within",
                    test="tost",
                    centre=-0.5,
                    margin=MARGIN,
                    pilot=pilot(*PILOT[of, moment]),
                    robustness=(
                        *(Variant(f"{layer} alone", {"layer": layer}) for layer in LAYERS),
                        Variant("margin 0.1", margin=0.1),
                    ),
                )
            )
    return tuple(made)


BATCH_NOISE = Experiment(
    name="batch-noise",
    title="How noisy are batch statistics?",
    question=(
        "Batch normalization uses mean and variance of a random batch, and so adds noise. Does "
        "this noise fall with the root of the batch size, in every layer?"
    ),
    literature=(
        "Luo et al. (2019) and Teye et al. (2018) model batch statistics as means of independent "
        "values, whose noise falls as one over the root of the batch size. In convolutional layers "
        "neighbouring positions are alike, so a batch is worth fewer values than it has."
    ),
    design=(
        "LeNet with batch normalization at the notes' settings. Before training and after two "
        "epochs of it (ten at the full size) random batches of 4, 8, ..., 1,024 training images "
        "pass in training mode; the standard deviation of their means, in units of that of all "
        "values, and of their standard deviations, in units of their mean, is fitted against batch "
        "size on logarithmic scales, once a seed. The random batches are apart from those that "
        "train."
    ),
    limits=(
        "Behind a first normalization layer the batch's own statistics hold part of the noise in "
        "place; the law is tested as it holds there, not for layers in isolation. With 4 images "
        "the standard deviation of a batch is itself a few per cent off the asymptotic law."
    ),
    arms=arms,
    claims=claims,
    exhibits=(
        Exhibit(
            "batch-noise",
            "Noise of the mean and of the standard deviation of a batch against its size, both on "
            "logarithmic axes: means of the seeds with intervals, thin lines are seeds. Dashed: "
            "the predicted slope, at any height.",
            {"arm": "bn", "layers": LAYERS},
        ),
        *(
            Exhibit(
                "layer-lines",
                f"{label}, by random batches of {size} images, before training and after.",
                {
                    "probe": "batch-noise",
                    "layers": LAYERS,
                    "tensor": "in",
                    "stat": f"{stat}_{size}",
                    "label": label,
                },
            )
            for stat, label, size in (("effective", "Values an image is worth", 64),)
        ),
    ),
)

if __name__ == "__main__":
    from bnstudy.cli import main

    main(["run", BATCH_NOISE.name])  # type: ignore[has-type]
