"""`diptych score`: judge a file of predictions that any program made."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from diptych.cli import terminal
from diptych.cli.estimates import show_estimates
from diptych.cli.options import Json, Seed
from diptych.types import InputError


def score(
    task: Literal["captions", "vqa", "detections"],
    predictions: Path,
    /,
    *,
    against: str,
    partial: bool = False,
    masks: bool = False,
    meteor_data: Path | None = None,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Judge predictions by the official scores, each with its interval and what guessing would reach.

    Args:
        task: captions ([{"image_id":, "caption":}, ...]: BLEU, ROUGE-L, CIDEr-D, METEOR), vqa ([{"question_id":,
            "answer":}, ...]: VQA accuracy) or detections ([{"image_id":, "category_id":, "bbox":, "score":}, ...]:
            COCO's average precision).
        predictions: A JSON file in the format of COCO's or VQA's server.
        against: The truth: the official annotation file, or a dataset.
        partial: Judge only what is predicted; by default it is an error if something is missing.
        masks: For detections: compare masks instead of boxes.
        meteor_data: Folder with meteor-1.5.jar and its paraphrase table, for METEOR's last two stages; by default they
            are found in the package pycocoevalcap, if that is installed. Java is not needed.
    """
    from diptych.evaluation import score as scores
    from diptych.evaluation import to_json

    if masks and task != "detections":
        raise InputError(f"--masks: only detections have them, not {task}")
    if partial and task == "detections":
        raise InputError("--partial: a picture without detections is one in which nothing was found")
    file, options = predictions.expanduser(), dict[str, Any](seed=seed)
    if task == "captions":
        result = scores.score_captions(file, against, partial=partial, meteor_data=meteor_data, **options)
    elif task == "vqa":
        result = scores.score_vqa(file, against, partial=partial, **options)
    else:
        result = scores.score_detections(file, against, iou_type="segm" if masks else "bbox", **options)
    if json != terminal.STDOUT:
        show_estimates(f"{predictions.name} against {against}", result.estimates)
        for note in result.notes:
            terminal.note(note)
    left_out = {reason: number for reason, number in result.left_out().items() if number}
    if left_out:
        terminal.note(f"left out: {terminal.reasons(left_out)}", "yellow")
    terminal.write_json(to_json(result.estimates), json)
