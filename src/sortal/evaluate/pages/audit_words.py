"""What issues of an audit are called on its page, and one sentence each on what they mean and what to do."""

from __future__ import annotations

TITLES: dict[str, str] = {
    "unreadable": "Files that cannot be used",
    "outside_class_folder": "Images beside the class folders",
    "duplicates_across_splits": "Identical images in several splits",
    "near_duplicates_across_splits": "Nearly the same picture in several splits",
    "burst_across_splits": "Pictures taken together, in several splits",
    "group_across_splits": "Groups in several splits",
    "label_error": "Labels that look wrong",
    "conflicting_labels": "The same picture under different labels",
    "exact_duplicates": "Identical images",
    "near_duplicates": "Nearly the same picture",
    "bursts": "Pictures taken together",
    "outlier": "Images unlike all others",
    "dark": "Dark images",
    "light": "Overexposed images",
    "blurry": "Blurred images",
    "low_information": "Images that show next to nothing",
    "odd_aspect_ratio": "Unusual shapes",
    "odd_size": "Unusual sizes",
    "odd_mode": "Unusual color modes",
    "odd_depth": "Unusual bit depths",
    "wrong_extension": "Names that say another format",
    "animated": "Several frames or pages",
    "gps_position": "Images that say where they were taken",
    "personal_exif": "Images that name people or cameras",
    "grayscale": "Images without color",
    "synthetic_in_test": "Synthetic images in validation or test",
}

HELP: dict[str, str] = {
    "unreadable": "They stop a training or are left out silently elsewhere. Copy them again from where they come from; "
    "the plan puts them into quarantine.",
    "duplicates_across_splits": "A model has learned the very image it is judged on. Divide the images anew.",
    "near_duplicates_across_splits": "Saved again, resized, cropped or lighter: still the same picture on both sides. "
    "Divide the images anew.",
    "burst_across_splits": "One object or scene, photographed several times, on both sides of a split.",
    "label_error": "A model that never saw the image, its copies or its group answers another class. Look before you "
    "relabel: the surest come first, and the plan applies only the surest.",
    "conflicting_labels": "One of the labels is wrong, and which one is for a person to say.",
    "exact_duplicates": "The same bytes under several names. The plan keeps the first of each.",
    "near_duplicates": "One picture saved again, resized, cropped by a little, lighter or slightly blurred. The plan "
    "keeps the first of each.",
    "bursts": "They count as about one image when it comes to how much was seen; a split has to keep them together.",
    "outlier": "Another object, a wrong region, a test picture? Or a rare case that is worth more than all others.",
    "gps_position": "Position and owner travel with the files whenever they are shared. This page carries neither.",
}
