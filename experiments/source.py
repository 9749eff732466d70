"""Does the notes' own experiment come out as printed?

Arms: ``concise`` (``nn.BatchNorm``) and ``scratch`` (the notes' from-scratch
batch normalization), at the notes' exact settings: LeNet, sigmoid, batches of
256, SGD at 0.9, all 60,000 images; 10 epochs.  The slow from-scratch layer trains 4
seeds, below the full size for the first 2 epochs only: enough to lay beside the printed
values.  That it computes what torch's layer does is no question for a study: forward
pass, gradients and running statistics are compared in tests/networks/test_norm.py.

Cost: 10.1 M image-passes at the standard size (16 seeds x 600,000 and 4 x 120,000).

Expected: the printed values of epochs 0.2 to 2.8 lie among our seeds.

Command: ``bnstudy run source``

Source: the lecture notes the project grew from, cells 15 to 18, after the
batch normalization chapter of Zhang et al., Dive into Deep Learning (2021).
"""

from bnstudy.plan import Arm, Exhibit, Experiment, Profile

from .common import notes

SCRATCH_SEEDS = 4
SCRATCH_EPOCHS = {"tiny": 1, "quick": 1, "standard": 2, "full": 10}

DATA = "fashion-mnist"  # the data set of the notes: values of another are not compared with theirs
# The listing of the notes, which is cut off after epoch 2.8, with all digits that they print.
# arm: ((epoch, train_loss, train_accuracy), ...), running means since the start of the epoch
PRINTED = {
    "scratch": (
        (0.2, 1.1157996844738087, 0.6095412234042553),
        (0.4, 0.919659712213151, 0.6742021276595744),
        (0.6, 0.8318415930930604, 0.7018783244680851),
        (0.8, 0.7667046658536221, 0.7247755984042553),
        (1.0, 0.7192401525497436, 0.7416),
        (1.2, 0.5064855338411128, 0.8115857712765957),
        (1.4, 0.48988876729569536, 0.820063164893617),
        (1.6, 0.4825343162032729, 0.8231105939716312),
        (1.8, 0.47760752176350735, 0.8243018617021277),
        (2.0, 0.4683734359105428, 0.8284666666666667),
        (2.2, 0.4082371751044659, 0.8485704787234043),
        (2.4, 0.40830606127038915, 0.8496509308510638),
        (2.6, 0.41287886969586635, 0.8478224734042553),
        (2.8, 0.4081670050608351, 0.8491730385638298),
    ),
    "concise": (
        (0.2, 1.0844372206545891, 0.6171875),
        (0.4, 0.8916318369038562, 0.6798952792553191),
        (0.6, 0.8001158011297808, 0.711436170212766),
        (0.8, 0.7445767458449019, 0.7301155252659575),
        (1.0, 0.703881033706665, 0.7449),
        (1.2, 0.5291786510893639, 0.8035239361702128),
        (1.4, 0.5035403221845627, 0.8138713430851063),
        (1.6, 0.49055850907420434, 0.8199523492907801),
        (1.8, 0.478026808100812, 0.8243641954787234),
        (2.0, 0.46913920974731443, 0.8276666666666667),
        (2.2, 0.42546047492230193, 0.8426695478723404),
        (2.4, 0.41432177861954306, 0.8472822473404256),
        (2.6, 0.40768800538482397, 0.8503435283687943),
        (2.8, 0.40304638699014134, 0.8524559507978723),
    ),
}

# gamma and beta of the first normalization layer after the from-scratch training (cell 16)
FIRST_LAYER_GAMMA = (0.8035, 2.9319, 2.7292, 4.4260, 2.3077, 2.6277)
FIRST_LAYER_BETA = (-0.7501, -1.6460, -2.9647, 2.4097, 1.4707, -2.0397)


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return the two trainings of the notes; below ``standard`` with fewer images."""
    base = notes(profile, train_split="all").replace(validation_images=0)
    scratch = base.replace(norm="scratch", epochs=min(base.epochs, SCRATCH_EPOCHS[profile.name]))
    return (
        # by the reference engine, as its own code is what is compared
        Arm("scratch", scratch, "from-scratch BN", by_reference=True, seeds=SCRATCH_SEEDS),
        Arm("concise", base.replace(norm="bn"), "torch BN"),
    )


SOURCE = Experiment(
    name="source",
    title="The notes' own training, many times over",
    question=(
        "The notes train LeNet with batch normalization once from scratch and once with torch's "
        "layer, and print the results. Do those numbers come out again, and how much of them is "
        "luck?"
    ),
    literature=(
        "The notes print loss and accuracy five times an epoch for one training each, and the "
        "learned gamma and beta of the first normalization layer. The network and settings are "
        "those of Dive into Deep Learning (Zhang, Lipton, Li & Smola 2021, section 8.5); the "
        "layer is that of Ioffe & Szegedy (2015)."
    ),
    design=(
        "Two arms at the notes' settings: LeNet with sigmoids, Xavier-uniform weights, batches of "
        "256, plain SGD at learning rate 0.9. The arms differ in the normalization layer only: "
        "the from-scratch layer keeps the biased variance in its moving average, torch's keeps "
        "the unbiased one. In training they compute the same. Each seed gives both arms the same "
        "initial weights and the same order of images. As in the notes the printed loss and "
        "accuracy are running means since the start of the epoch, and all training images are "
        "trained on, so there is no validation set here. The from-scratch arm is always trained "
        "by the reference engine, through the layer's own code and autograd, and, being slow, "
        "with 4 seeds and for the first 2 of the 10 epochs only, 10 at the full size."
    ),
    limits=(
        "It compares one training per arm of the notes, whose seed is unknown, with many of ours: "
        "a printed value outside our spread would show a difference, one inside does not prove "
        "that everything is equal. The spread of the from-scratch arm is that of 4 seeds. It says "
        "nothing about training without normalization: the notes print no such run."
    ),
    arms=arms,
    exhibits=(
        Exhibit(
            "printed-results",
            "Lines: our seeds, running means since the start of each epoch. Points: the values "
            "printed in the notes.",
            {"printed": PRINTED, "images": 60_000, "data": DATA},
        ),
        Exhibit(
            "first-layer-parameters",
            "Every channel of the first normalization layer at the end of training, sorted within "
            "a seed, because the numbering of channels means nothing across seeds.",
            {
                "arm": "concise",
                "gamma": FIRST_LAYER_GAMMA,
                "beta": FIRST_LAYER_BETA,
                "data": DATA,
            },
        ),
        Exhibit(
            "evaluation-statistics",
            "Test accuracy of the same weights at the end of each epoch, once with the running "
            "averages that the layers keep and once with population statistics recomputed over "
            "training images.",
            {"arms": ("scratch", "concise")},
        ),
        Exhibit(
            "final-accuracy",
            "Test accuracy where the shorter arm ends, one point per seed, with population "
            "statistics.",
            {"baseline": "concise", "together": True},
        ),
    ),
)
