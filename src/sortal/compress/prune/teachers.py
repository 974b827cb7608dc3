"""Whether the teachers of `compress.teacher` can teach, asked before anything is cut, which takes minutes."""

from __future__ import annotations

from pathlib import Path

from sortal.core.errors import InputError, RecipeError
from sortal.core.preprocess import PreprocessSpec
from sortal.core.progress import Listener
from sortal.core.recipe import Recipe
from sortal.core.sections import DistillSection
from sortal.data.remote import is_remote
from sortal.data.table import ImageTable
from sortal.models.resolve import has_card_suffix, resolve
from sortal.train.teacher import open_teachers

_WHERE = "compress.teacher"


def check_teachers(recipe: Recipe, table: ImageTable, spec: PreprocessSpec, listener: Listener) -> None:
    """Open every run, bundle and artifact that is to teach, and find the architectures; images without labels have to
    be there. `table` has the classifier's classes.

    Raises RecipeError for a teacher that is not there, has other classes or sees other pictures, and for images that
    are not there.
    """
    named = recipe.compress.teacher or ()
    for reference in (named,) if isinstance(named, str) else named:
        try:
            if Path(reference).expanduser().exists() and not has_card_suffix(reference):
                teacher = open_teachers(DistillSection(teacher=reference), table, spec, threads=1, listener=listener)
                if teacher is not None:
                    teacher.close()
            else:
                resolve(reference, say=listener.say)
        except InputError as error:
            hint = error.hint or "name a run, a bundle, an artifact, or an architecture with published weights"
            raise RecipeError(error.what, where=_WHERE, received=error.received or reference, hint=hint) from error
    unlabelled = recipe.compress.unlabelled
    if unlabelled is not None and not is_remote(unlabelled) and not Path(unlabelled).expanduser().exists():
        raise RecipeError("there is no such folder", where="compress.unlabelled", received=unlabelled)
