"""Does averaging over batch statistics describe a network's uncertainty better?

Arms: ``bn`` with batches of 16, 64 and 256, at the notes' rate.  At the end every
network is evaluated with its running averages, and by averaging its probabilities over the
statistics of random training batches: without further training.

Cost: 5.3 M image-passes at the standard size (3 arms x 16 seeds x 110,000), and
4.3 M forward passes of test images, half of those there are.

Expected: Teye et al. find better likelihoods, most for small batches.

Command: ``bnstudy run uncertainty``

Source: Teye, Azizpour & Smith 2018.
"""

from bnstudy.plan import Arm, Claim, Estimand, Exhibit, Experiment, Profile

from .common import T_TEST, groups, notes

EPOCHS = {"tiny": 1, "quick": 1, "standard": 2, "full": 10}
BATCHES = {"tiny": 2, "quick": 4, "standard": 16, "full": 64}
SIZES = (16, 64, 256)
TESTED = {"standard": 5_000}  # half of the test images, since passes over them take long
SCORES = {
    "nll": "negative log-likelihood",
    "brier": "Brier score",
    "ece": "calibration error",
}
SOURCE = "Teye et al. 2018"
LOWERS = "Averaging over the statistics of random training batches lowers the test"


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return batch normalization with batches of three sizes."""
    epochs = EPOCHS[profile.name]
    base = notes(profile, test_every=epochs, test_images=TESTED.get(profile.name, 0))
    base = base.replace(epochs=epochs, norm="bn")
    probes = {"uncertainty": {"batches": BATCHES[profile.name]}}
    return tuple(
        Arm(f"bn/B={size}", base.replace(batch_size=size), f"BN, batches of {size}", probes=probes)
        for size in (SIZES if profile.judges else SIZES[::2])
    )


def batches_against(other: str, score: str, size: int) -> Estimand:
    """Return averaging over batches against other statistics, in a score of the same weights."""
    return Estimand(
        "probe",
        groups(f"bn/B={size}", f"bn/B={size}"),
        {"probe": "uncertainty", "stat": score, "tensor": "batches"},
        {"tensor": other},
    )


CLAIMS = (
    *(
        Claim(
            id=f"mc-bn-{score}-{size}",
            sentence=f"{LOWERS} {name}, against running averages, with batches of {size}",
            source=SOURCE,
            estimand=batches_against("running", score, size),
            unit=f"of {name}",
            direction="less",
            family="primary" if score == "nll" else "explored",
            robustness=(T_TEST,),
        )
        for score, name in SCORES.items()
        for size in SIZES
    ),
    *(
        Claim(
            id=f"mc-bn-nll-{size}-population",
            sentence=f"{LOWERS} {SCORES['nll']}, against population statistics, with batches of "
            f"{size}",
            source=SOURCE,
            estimand=batches_against("population", "nll", size),
            unit=f"of {SCORES['nll']}",
            direction="less",
            family="explored",  # separates averaging from the removal of lagging averages
        )
        for size in SIZES
    ),
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
        "statistics, which separates the two, is explored beside it. Calibration error by bins "
        "is biased upwards for few images. Uncertainty on images unlike the training images is not "
        "tested."
    ),
    arms=arms,
    claims=CLAIMS,
    exhibits=(
        Exhibit(
            "probe-readings",
            "Test negative log-likelihood of the same weights at the end, read in three ways: "
            "one dot per seed, means with intervals.",
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
