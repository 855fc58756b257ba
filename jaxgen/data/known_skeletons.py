"""Skeletons of published sets of motions, as data."""

import numpy as np

from jaxgen.data.skeleton import Skeleton

# The CMU split of Li et al. 2018: 38 joints, some of them at the place of others. Offsets are in millimetres as the
# literature has them, 70 times those of CMU's files.
_CMU_OFFSETS = [
    *((0, 0, 0), (0, 0, 0), (1.65674, -1.80282, 0.62477), (2.5972, -7.13576, 0), (2.49236, -6.8477, 0)),
    *((0.19704, -0.54136, 2.14581), (0, 0, 1.11249), (0, 0, 0), (-1.6107, -1.80282, 0.62476), (-2.59502, -7.12977, 0)),
    *((-2.4678, -6.78024, 0), (-0.23024, -0.63258, 2.13368), (0, 0, 1.11569), (0, 0, 0), (0.01961, 2.0545, -0.14112)),
    *((0.01021, 2.06436, -0.05921), (0, 0, 0), (0.00713, 1.56711, 0.14968), (0.03429, 1.56041, -0.10006)),
    *((0.01305, 1.6256, -0.05265), (0, 0, 0), (3.54205, 0.90436, -0.17364), (4.86513, 0, 0), (3.35554, 0, 0)),
    *((0, 0, 0), (0.66117, 0, 0), (0.53306, 0, 0), (0, 0, 0), (0.5412, 0, 0.5412), (0, 0, 0)),
    *((-3.49802, 0.75994, -0.32616), (-5.02649, 0, 0), (-3.36431, 0, 0), (0, 0, 0), (-0.73041, 0, 0)),
    *((-0.58887, 0, 0), (0, 0, 0), (-0.59786, 0, 0.59786)),
]
_LEG = ("hipjoint", "femur", "tibia", "foot", "toes", "toes_end")
_ARM = ("clavicle", "humerus", "radius", "wrist", "hand", "fingers", "fingers_end", "thumb", "thumb_end")
_BACK = ("lowerback", "upperback", "thorax", "lowerneck", "upperneck", "head", "head_end")
_CMU_NAMES = ("root", *(f"l{x}" for x in _LEG), *(f"r{x}" for x in _LEG), *_BACK)
_CMU_NAMES += (*(f"l{x}" for x in _ARM), *(f"r{x}" for x in _ARM))
_CMU_PARENTS = (-1, 0, 1, 2, 3, 4, 5, 0, 7, 8, 9, 10, 11, 0, 13, 14, 15, 16, 17, 18, 15, 20, 21, 22, 23, 24, 25, 23, 27)
_CMU_PARENTS += (15, 29, 30, 31, 32, 33, 34, 32, 36)
CMU = Skeleton(
    _CMU_NAMES,
    _CMU_PARENTS,
    70 * np.asarray(_CMU_OFFSETS, np.float64),
    # The two hip joints of CMU's actor files have no degree of freedom.
    tuple(i in _CMU_PARENTS and name not in ("lhipjoint", "rhipjoint") for i, name in enumerate(_CMU_NAMES)),
)

CMU_SEEN_PARENTS = CMU.parents_among(CMU.moving)  # of the 25 joints that predictors see

# Of Human3.6M's 32 joints, the 22 that predictors see: Mao et al. 2019. Only the tree is needed for their size.
H36M_PARENTS = (-1, 0, 1, 2, 3, 4, 0, 6, 7, 8, 9, 0, 11, 12, 13, 14, 12, 16, 17, 18, 19, 20, 19, 22)
H36M_PARENTS += (12, 24, 25, 26, 27, 28, 27, 30)
_H36M = Skeleton(tuple(map(str, range(32))), H36M_PARENTS, np.zeros((32, 3)))
H36M_SEEN = (2, 3, 4, 5, 7, 8, 9, 10, 12, 13, 14, 15, 17, 18, 19, 21, 22, 25, 26, 27, 29, 30)
H36M_SEEN_PARENTS = _H36M.parents_among(H36M_SEEN)

# The humanoid of Peng et al. 2018 (DeepMimic), metres; it looks along x, y is up.
_SIDE = ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
_SIDE_PARENTS = (0, 3, 4, 1, 6, 7)
DEEPMIMIC = Skeleton(
    ("root", "chest", "neck", *(f"right_{x}" for x in _SIDE), *(f"left_{x}" for x in _SIDE)),
    (-1, 0, 1, *_SIDE_PARENTS, *(parent + 6 if parent > 1 else parent for parent in _SIDE_PARENTS)),
    np.asarray(
        [
            *((0, 0, 0), (0, 0.236151, 0), (0, 0.223894, 0)),
            *((0, 0, 0.084887), (0, -0.421546, 0), (0, -0.40987, 0)),
            *((-0.02405, 0.2435, 0.18311), (0, -0.274788, 0), (0, -0.258947, 0)),
            *((0, 0, -0.084887), (0, -0.421546, 0), (0, -0.40987, 0)),
            *((-0.02405, 0.2435, -0.18311), (0, -0.274788, 0), (0, -0.258947, 0)),
        ]
    ),
)

# The body of SMPL (Loper et al. 2015) without hands: places of the joints at rest of a mean shape, metres.
_SMPL_NAMES = ("pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle")
_SMPL_NAMES += ("right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head")
_SMPL_NAMES += ("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist")
_SMPL_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19)
_SMPL_PLACES = np.asarray(
    [
        *((0, 0, 0), (0.0726, -0.0904, -0.005), (-0.071, -0.0899, -0.0043), (-0.0029, 0.1082, -0.028)),
        *((0.1107, -0.4789, -0.0072), (-0.1138, -0.4839, -0.0115), (0.0036, 0.2473, -0.0251)),
        *((0.0984, -0.8879, -0.0506), (-0.0996, -0.8921, -0.054), (0.0053, 0.3033, -0.0001)),
        *((0.1313, -0.9463, 0.0701), (-0.1292, -0.9418, 0.0712), (0.0025, 0.5251, -0.0379)),
        *((0.0863, 0.4287, -0.0344), (-0.0778, 0.4239, -0.0404), (0.0082, 0.597, 0.0187)),
        *((0.1792, 0.4625, -0.0439), (-0.1739, 0.4585, -0.05), (0.4471, 0.4472, -0.0723)),
        *((-0.4326, 0.4432, -0.0732), (0.7052, 0.4587, -0.0727), (-0.6937, 0.4524, -0.0775)),
    ]
)
SMPL = Skeleton(
    _SMPL_NAMES,
    _SMPL_PARENTS,
    _SMPL_PLACES - np.concatenate([_SMPL_PLACES[:1], _SMPL_PLACES[list(_SMPL_PARENTS[1:])]]),
)

# The body that is captured from images: SMPL's, with the ends of its limbs, so that all of its joints have bones.
_ENDS = {
    "left_toes": ("left_foot", (0.005, -0.012, 0.075)),
    "right_toes": ("right_foot", (-0.005, -0.012, 0.075)),
    "head_top": ("head", (0, 0.19, 0.01)),
    "left_hand": ("left_wrist", (0.11, -0.01, 0.0)),
    "right_hand": ("right_wrist", (-0.11, -0.01, 0.0)),
}
BODY = Skeleton(
    (*_SMPL_NAMES, *_ENDS),
    (*_SMPL_PARENTS, *(_SMPL_NAMES.index(parent) for parent, _ in _ENDS.values())),
    np.concatenate([SMPL.offsets, np.asarray([offset for _, offset in _ENDS.values()], np.float64)]),
    (True,) * len(SMPL) + (False,) * len(_ENDS),
)

NAMED = {"cmu": CMU, "deepmimic": DEEPMIMIC, "smpl": SMPL}  # by which settings name them
