"""Does averaging over batch statistics tell better what a network does not know?

Arms: ``bn`` with batches of 16, 64 and 256, at the notes' rate.  At the end every
network is read by its running averages, and by averaging its probabilities over
random training batches' statistics: nothing is trained anew.

Cost: 5.3 M image-passes at the standard size (3 arms x 16 seeds x 110,000), and
4.3 M forward passes of test images, half of those there are.

Expected: Teye et al. find better likelihoods, most for small batches.

Run it: ``python -m experiments.uncertainty`` or ``bnstudy run uncertainty``.

Source: Teye, Azizpour & Smith 2018.
"""

from bnstudy.plan.claim import Claim, Estimand, Variant
from bnstudy.plan.plan import Arm, Exhibit, Experiment, Profile
from experiments.common import notes, registers

EPOCHS = {"tiny": 1, "quick": 1, "standard": 2, "full": 10}
BATCHES = {"tiny": 2, "quick": 4, "standard": 16, "full": 64}
SIZES = (16, 64, 256)
TESTED = {"standard": 5_000}  # half of the test images, for the time that passes of them take
SCORES = {
    "nll": "negative log-likelihood",
    "brier": "Brier score",
    "ece": "calibration error",
}


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return batch normalization with batches of three sizes."""
    epochs = EPOCHS[profile.name]
    base = notes(profile, test_every=epochs, test_images=TESTED.get(profile.name, 0))
    base = base.replace(epochs=epochs, norm="bn")
    look = {"uncertainty": {"batches": BATCHES[profile.name]}}
    return tuple(
        Arm(f"bn/B={size}", base.replace(batch_size=size), f"BN, batches of {size}", probes=look)
        for size in (SIZES if registers(profile) else SIZES[::2])
    )


def claims(profile: Profile) -> tuple[Claim, ...]:
    """Register that averaging over batches lowers every score, at every batch size."""
    if not registers(profile):
        return ()
    against_running = tuple(
        Claim(
            id=f"mc-bn-{score}-{size}",
            sentence="Averaging over the statistics of random training batches lowers the test "
            f"{words}, against running averages, with batches of {size}",
            source="Teye et al. 2018",
            estimand=Estimand(
                "probe",
                ((f"bn/B={size}",), (f"bn/B={size}",)),
                {"probe": "uncertainty", "stat": score, "tensor": "batches"},
                {"tensor": "running"},
            ),
            unit=f"of {words}",
            direction="less",
            test="sign-flip",
            family="confirmatory" if score == "nll" else "exploratory",
            robustness=(Variant("t test", test="t"),),
        )
        for score, words in SCORES.items()
        for size in SIZES
    )
    return against_running + tuple(
        Claim(
            id=f"mc-bn-nll-{size}-population",
            sentence="Averaging over the statistics of random training batches lowers the test "
            f"{SCORES['nll']}, against population statistics, with batches of {size}",
            source="Teye et al. 2018",
            estimand=Estimand(
                "probe",
                ((f"bn/B={size}",), (f"bn/B={size}",)),
                {"probe": "uncertainty", "stat": "nll", "tensor": "batches"},
                {"tensor": "population"},
            ),
            unit=f"of {SCORES['nll']}",
            direction="less",
            test="sign-flip",
            family="exploratory",  # tells averaging from getting rid of lagging averages
        )
        for size in SIZES
    )


UNCERTAINTY = Experiment(
    name="uncertainty",
    title="Do random batches tell how sure a network is?",
    question=(
        "With batch normalization a prediction depends on the batch that gave the statistics. "
        "Are predicted probabilities better if they are averaged over many random training "
        "batches, as if over networks?"
    ),
    literature=(
        "Teye et al. (2018) read batch normalization as approximate Bayesian inference: averaging "
        "over batch statistics estimates uncertainty without another training."
    ),
    design=(
        "LeNet with batch normalization at the notes' settings, batches of 16, 64 and 256. At the "
        "end test images are classified by running averages, by population statistics, and by the "
        "mean of probabilities over the statistics of random training batches of the arm's size. "
        "Both readings are of the same weights. At the standard size half of the test images are "
        "used."
    ),
    limits=(
        "Running averages that lag or are noisy lose by themselves; the comparison to population "
        "statistics, which tells the two apart, is explored beside it. Calibration error by bins "
        "is biased upwards for few images. Uncertainty on images unlike the training images is not "
        "tested."
    ),
    arms=arms,
    claims=claims,
    exhibits=(
        Exhibit(
            "probe-readings",
            "Test negative log-likelihood of the same weights at the end, read in three ways: a "
            "dot a seed, means with intervals.",
            {
                "probe": "uncertainty",
                "stat": "nll",
                "label": "Negative log-likelihood",
                "readings": {
                    "running": "running averages",
                    "population": "population statistics",
                    "batches": "averaging over batches",
                },
            },
        ),
        Exhibit("learning-curves", "Validation accuracy of the same runs.", {}),
    ),
)

if __name__ == "__main__":
    from bnstudy.cli import main

    main(["run", UNCERTAINTY.name])  # type: ignore[has-type]
