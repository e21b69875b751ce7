"""Run a safety filter over a folder of images, and study its threshold.

Writes ``filter.jsonl`` (which image is blocked by which concept, with its score),
``contact_sheet.png``, and, where it is told what is related to what, ``thresholds.png`` and
``study.json``: the cosines of related and unrelated texts and images, the threshold's false-alarm
and miss rate, and whether a paraphrase or the recovered text slips through.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from src.algorithms.safety import Decision, SafetyFilter, error_rates
from src.backbones import Clip, load_clip
from src.reports.figures import COLORS, DASHES, legend_beside, new_figure, save_figure

SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jfif", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
)
#: Larger images are refused by name: decoding one would take gigabytes.
MAX_PIXELS = 400_000_000
THUMBNAIL = 512


class FilterReport:
    """The filter's decisions about a folder of images.

    Args:
        output_dir: The run's folder.
        backbone: The spec of the CLIP that made the filter's embeddings.
        images: Folder of images; ``captions.json`` in it maps file names to captions.
        filter_path: Safetensors file with ``embeddings`` (k, dim) and maybe ``thresholds`` (k,).
        threshold: One threshold for all concepts, instead of the file's.
        texts: A text file with one recovered text a concept (inversion's ``Q5.txt``), or None.
        study: JSON file of texts related and unrelated to the concepts, or None.
        batch_size: Images in one forward pass.
        num_shown: Most images on the contact sheet.

    Raises:
        FileNotFoundError: If a file or the folder is missing.
        ValueError: If the folder holds no image, or the filter cannot be used.
    """

    def __init__(
        self,
        output_dir: str,
        backbone: Mapping[str, Any],
        images: str,
        filter_path: str,
        threshold: float | None = None,
        texts: str | None = None,
        study: str | None = None,
        batch_size: int = 32,
        num_shown: int = 48,
    ) -> None:
        for key, path, is_right in (
            ("data.path", images, Path(images).is_dir()),
            ("filter.path", filter_path, Path(filter_path).is_file()),
            ("filter.texts", texts, texts is None or Path(texts).is_file()),
            ("filter.study", study, study is None or Path(study).is_file()),
        ):
            if not is_right:
                kind = "folder" if key == "data.path" else "file"
                if Path(str(path)).exists():
                    raise ValueError(f"{key}: {path} is not a {kind}; give a {kind}.")
                raise FileNotFoundError(f"{key}: there is no {kind} {path}.")
        self.files = sorted(
            p for p in Path(images).rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES
        )
        if not self.files:
            raise ValueError(
                f"data.path: {images} holds no image (looked for {', '.join(sorted(SUFFIXES))})."
            )
        self.output_dir, self.backbone = Path(output_dir), backbone
        self.folder = Path(images)
        self.filter, self.thresholds_given = read_filter(filter_path, threshold)
        self.texts = Path(texts).read_text(encoding="utf-8").splitlines() if texts else []
        if texts and len(self.texts) != len(self.filter.concepts):
            raise ValueError(
                f"filter.texts has {len(self.texts)} lines, the filter {len(self.filter.concepts)} "
                "concepts; give one line a concept."
            )
        self.study = read_study(study) if study else None
        captions = self.folder / "captions.json"
        self.captions = read_captions(captions) if captions.is_file() else {}
        self.batch_size, self.num_shown = batch_size, num_shown

    def __call__(self) -> dict[str, float]:
        """Decide about every image, and write everything.

        Returns:
            Metrics ``filter/...``.

        Raises:
            ValueError: If the filter's width is not the encoder's, the encoder has no images, or
                no image can be read.
        """
        clip = load_clip(self.backbone)
        if not clip.has_vision:
            raise ValueError(
                f"backbone {clip.name!r} reads texts only; choose one with an image tower, "
                "for example backbone=mini_clip."
            )
        width = int(clip.model.visual.output_dim)
        if width != self.filter.concepts.shape[1]:
            raise ValueError(
                f"the filter's embeddings have {self.filter.concepts.shape[1]} dimensions, "
                f"backbone {clip.name!r} makes {width}; choose the CLIP that made them."
            )
        self.output_dir.mkdir(parents=True, exist_ok=True)
        z, readable, unreadable = encode_images(clip, self.files, self.batch_size)
        if not readable:
            named = [f"{file.name} ({why})" for file, why in unreadable.items()][:5]
            raise ValueError(
                f"data.path: none of the {len(unreadable)} images in {self.folder} can be read: "
                f"{', '.join(named)}{', ...' if len(unreadable) > len(named) else ''}."
            )
        decisions = self.filter(z)
        self._write(readable, decisions, unreadable)
        self._print(readable, decisions, unreadable)
        contact_sheet(
            self._chosen(readable, decisions), self.names(), self.output_dir / "contact_sheet.png"
        )
        metrics: dict[str, float] = {
            "filter/num_images": len(readable),
            "filter/num_blocked": sum(d.blocked for d in decisions),
            "filter/num_unreadable": len(unreadable),
        }
        if self.study is not None:
            metrics |= self._study(clip, z, readable)
        return metrics

    def names(self) -> list[str]:
        """Name the concepts: by their recovered texts, else by number."""
        if self.texts:
            return [f"{k}: {text}" for k, text in enumerate(self.texts)]
        return [f"concept {k}" for k in range(len(self.filter.concepts))]

    # ----------------------------------------------------------------- output

    def _write(
        self, files: Sequence[Path], decisions: Sequence[Decision], unreadable: Mapping[Path, str]
    ) -> None:
        names, rows = self.names(), []
        for file, d in zip(files, decisions, strict=True):
            rows.append(
                {
                    "file": str(file.relative_to(self.folder)),
                    "blocked": d.blocked,
                    "concepts": [
                        {"concept": k, "name": names[k], "score": d.scores[k]} for k in d.concepts
                    ],
                    "score": max(d.scores),
                    "scores": d.scores,
                }
            )
        for file, why in unreadable.items():
            rows.append({"file": str(file.relative_to(self.folder)), "error": why})
        rows.sort(key=lambda row: row["file"])
        lines = [json.dumps({"index": i, **row}, ensure_ascii=False) for i, row in enumerate(rows)]
        (self.output_dir / "filter.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _print(
        self, files: Sequence[Path], decisions: Sequence[Decision], unreadable: Mapping[Path, str]
    ) -> None:
        console, names = Console(), self.names()
        table = Table(title="blocked images", title_justify="left", box=box.SIMPLE)
        for name in ("file", "concept", "score", "threshold"):
            table.add_column(name, justify="right" if name in ("score", "threshold") else "left")
        blocked = [(f, d) for f, d in zip(files, decisions, strict=True) if d.blocked]
        for file, d in blocked[:40]:
            for k in d.concepts:
                table.add_row(
                    str(file.relative_to(self.folder)) if k == d.concepts[0] else "",
                    names[k],
                    f"{d.scores[k]:.3f}",
                    f"{d.scores[k] - d.margins[k]:.3f}",
                )
        console.print(table)
        console.print(f"{len(blocked)} of {len(files)} images blocked")
        for file, why in unreadable.items():
            console.print(f"unreadable: {file.relative_to(self.folder)} ({why})")
        console.print(
            f"Decisions, contact sheet: {self.output_dir}", soft_wrap=True, highlight=False
        )

    def _chosen(
        self, files: Sequence[Path], decisions: Sequence[Decision]
    ) -> list[tuple[Path, Decision]]:
        """Take what fits on the sheet: the blocked and the passed in turn, in file order."""
        pairs = list(zip(files, decisions, strict=True))
        if len(pairs) <= self.num_shown:
            return pairs
        blocked = [p for p in pairs if p[1].blocked]
        passed = [p for p in pairs if not p[1].blocked]
        half = self.num_shown // 2
        keep = blocked[: max(half, self.num_shown - len(passed))]
        keep += passed[: self.num_shown - len(keep)]
        return sorted(keep)  # by file

    # ------------------------------------------------------------------ study

    def _study(self, clip: Clip, z: Tensor, files: Sequence[Path]) -> dict[str, float]:
        """Measure the threshold on texts, on images with captions, and on recovered texts."""
        assert self.study is not None
        concepts = self.study["concepts"]
        if len(concepts) != len(self.filter.concepts):
            raise ValueError(
                f"filter.study describes {len(concepts)} concepts, the filter has "
                f"{len(self.filter.concepts)}; give filter.study=null for another filter."
            )
        secrets = [c["text"] for c in concepts]
        phrases = [(k, p) for k, c in enumerate(concepts) for p in c["paraphrases"]]
        unrelated = self.study["unrelated"]
        paraphrase = self._cosines(clip, [p for _, p in phrases])
        own = paraphrase[torch.arange(len(phrases)), torch.tensor([k for k, _ in phrases])]
        far = self._cosines(clip, unrelated)  # (n, k)
        samples: dict[str, Tensor] = {
            "unrelated texts": far.flatten(),
            "paraphrases": own,
        }
        thresholds = self.filter.thresholds
        metrics = {
            "filter/text_false_alarm": float((far > thresholds).any(1).float().mean()),
            "filter/paraphrase_miss": float(
                (own <= thresholds[torch.tensor([k for k, _ in phrases])]).float().mean()
            ),
        }
        captions = [self.captions.get(str(f.relative_to(self.folder))) for f in files]
        cosines = F.normalize(z, dim=-1) @ self.filter.concepts.T if len(files) else None
        curves = {"texts": error_rates(own, far.flatten())}
        if cosines is not None and any(c in secrets for c in captions):
            related = torch.zeros_like(cosines, dtype=torch.bool)
            for i, caption in enumerate(captions):
                if caption in secrets:
                    related[i, secrets.index(caption)] = True
            seen = {secrets.index(c) for c in captions if c in secrets}
            columns = sorted(seen)
            # An image without a caption may show anything.
            named = torch.tensor([c is not None for c in captions])
            near = cosines[related]
            away = cosines[named][:, columns][~related[named][:, columns]]
            if away.numel():
                samples["unrelated images"] = away
                curves["images"] = error_rates(near, away)
            samples["images of it"] = near
            over = cosines > thresholds
            metrics["filter/image_miss"] = float((~over[related]).float().mean())
            if bool((others := named & ~related.any(1)).any()):
                metrics["filter/image_false_alarm"] = float(over[others].any(1).float().mean())
        texts = self.texts or []
        recovered = self._cosines(clip, texts).diagonal() if texts else None
        rows = []
        for k, secret in enumerate(secrets):
            row: dict[str, Any] = {
                "concept": k,
                "text": secret,
                "threshold": float(thresholds[k]),
                "paraphrases": [
                    {"text": p, "cosine": float(own[i]), "blocked": bool(own[i] > thresholds[k])}
                    for i, (j, p) in enumerate(phrases)
                    if j == k
                ],
            }
            if recovered is not None:
                row["recovered"] = {
                    "text": texts[k],
                    "cosine": float(recovered[k]),
                    # Inversion returns the tokenizer's spelling: "dog 's" for "dog's".
                    "is_the_secret": torch.equal(*clip.tokenizer([texts[k], secret])),
                    "blocked": bool(recovered[k] > thresholds[k]),
                }
            rows.append(row)
        if recovered is not None:
            metrics["filter/recovered_exactly"] = sum(r["recovered"]["is_the_secret"] for r in rows)
            metrics["filter/recovered_blocked"] = sum(r["recovered"]["blocked"] for r in rows)
            samples["recovered texts"] = recovered
        for name, curve in curves.items():
            threshold, error = curve.equal_error()
            metrics[f"filter/{name}_equal_error"] = error
            metrics[f"filter/{name}_equal_error_threshold"] = threshold
            threshold, miss = curve.at_false_alarm(0.01)
            metrics[f"filter/{name}_miss_at_1_percent_false_alarm"] = miss
        (self.output_dir / "study.json").write_text(
            json.dumps({"concepts": rows, "metrics": metrics}, indent=2) + "\n", encoding="utf-8"
        )
        self._draw(samples, curves)
        return metrics

    def _cosines(self, clip: Clip, texts: Sequence[str]) -> Tensor:
        """Cosines of texts to every concept: (n, k)."""
        with torch.no_grad():
            z = clip.model.encode_text(clip.tokenizer(list(texts)))
        return F.normalize(z.float(), dim=-1) @ self.filter.concepts.T

    def _draw(self, samples: Mapping[str, Tensor], curves: Mapping[str, Any]) -> None:
        """Draw where the cosines lie, and both error rates against the threshold."""
        figure, axes = new_figure(2, size=(5.4, 3.6))
        left, right = axes
        names = list(samples)
        for row, name in enumerate(names):
            values = samples[name].flatten()
            shown = values if len(values) <= 400 else values[:: math.ceil(len(values) / 400)]
            heights = row + 0.28 * torch.sin(torch.arange(len(shown)) * 2.399)
            left.scatter(shown, heights, s=7, alpha=0.55, color=COLORS[row], linewidths=0)
            low, middle, high = torch.quantile(values, torch.tensor([0.05, 0.5, 0.95])).tolist()
            left.plot([low, high], [row, row], color="black", linewidth=1.2)
            left.plot([middle], [row], marker="|", markersize=13, color="black")
        left.set_yticks(range(len(names)), [f"{n} ({samples[n].numel()})" for n in names])
        left.set_ylim(len(names) - 0.4, -0.6)
        spread = self.filter.thresholds
        left.axvspan(float(spread.min()) - 1e-3, float(spread.max()) + 1e-3, color="0.85", zorder=0)
        left.set_xlabel("cosine to the concept (grey: thresholds; line: 5 to 95 %)")
        left.set_title("Related and unrelated")
        index = 0
        for name, curve in curves.items():
            for kind, values in (("false alarms", curve.false_alarm), ("misses", curve.miss)):
                right.plot(
                    curve.thresholds,
                    100 * values,
                    color=COLORS[index],
                    linestyle=DASHES[index],
                    label=f"{kind}, {name}",
                )
                index += 1
        middle = float(spread.median())
        right.axvline(middle, color="0.5", linewidth=1)
        right.text(middle, 101, " threshold", color="0.3", fontsize=8, va="bottom", ha="center")
        right.set_xlabel("threshold (cosine)")
        right.set_ylabel("share of a concept's items (%)")
        right.set_title("Error rates", pad=14)
        legend_beside(right)
        save_figure(figure, self.output_dir / "thresholds.png")


def read_filter(path: str, threshold: float | None) -> tuple[SafetyFilter, bool]:
    """Read a filter; tell whether its thresholds came with it.

    Raises:
        ValueError: If the file is no safetensors, has no embeddings, or no threshold is known.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        content = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"filter.path: {Path(path).name} is not a safetensors file ({error}); a filter holds "
            "'embeddings' (k, dim) and 'thresholds' (k,)."
        ) from error
    if "embeddings" not in content or content["embeddings"].ndim != 2:
        raise ValueError(
            f"filter.path: {Path(path).name} holds {', '.join(content) or 'nothing'}; expected a "
            "matrix 'embeddings' (k, dim)."
        )
    thresholds: Any = content.get("thresholds") if threshold is None else threshold
    if thresholds is None:
        raise ValueError(
            f"filter.path: {Path(path).name} has no thresholds; give one: filter.threshold=0.3."
        )
    special = content.get("special_embeddings")
    return (
        SafetyFilter(content["embeddings"], thresholds, special, content.get("special_thresholds")),
        threshold is None,
    )


def read_captions(path: Path) -> dict[str, str]:
    """Read what the images of a folder show: a JSON object of file names and captions.

    Raises:
        ValueError: If the file is no such object.
    """
    try:
        captions = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(captions, dict) or not all(isinstance(c, str) for c in captions.values()):
            raise TypeError("not an object of texts")
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} is no list of captions; expected a JSON object of file names and texts. Mend "
            "it or take it away."
        ) from error
    return captions


def read_study(path: str) -> dict[str, Any]:
    """Read the texts that :class:`FilterReport` studies the threshold with.

    Raises:
        ValueError: If the file is no JSON of that form.
    """
    try:
        study = json.loads(Path(path).read_text(encoding="utf-8"))
        used = [[c["text"], *c["paraphrases"]] for c in study["concepts"]]
        if not all(isinstance(text, str) for text in sum(used, [*study["unrelated"]])):
            raise TypeError("a text is no string")
        if not study["unrelated"] or not any(c["paraphrases"] for c in study["concepts"]):
            raise ValueError("nothing to tell apart")
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"filter.study: {path} is no study; expected a JSON object with 'concepts' (a list of "
            "objects with 'text' and 'paraphrases') and 'unrelated' (texts), none of them "
            "empty, as in assets/filter/study.json, or filter.study=null."
        ) from error
    return study


def open_image(path: Path) -> Image.Image:
    """Read an image as RGB, upright, first frame, no larger than it needs to be.

    Raises:
        ValueError: If it is too large to decode.
        OSError: If it cannot be decoded.
    """
    with warnings.catch_warnings():
        # Pillow's limit guards memory; ours is checked before anything is decoded.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MAX_PIXELS
        try:
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ValueError(f"{image.width} x {image.height} pixels are too many")
                image.draft("RGB", (2 * THUMBNAIL, 2 * THUMBNAIL))
                image.seek(0)
                image.load()
                upright = ImageOps.exif_transpose(image) or image
                if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
                    upright = upright.convert("RGBA")
                    ground = Image.new("RGBA", upright.size, (128, 128, 128, 255))
                    upright = Image.alpha_composite(ground, upright)
                if upright.mode.startswith("I;16"):
                    upright = upright.point(lambda v: v / 256).convert("L")
                return upright.convert("RGB")
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def encode_images(
    clip: Clip, files: Sequence[Path], batch_size: int
) -> tuple[Tensor, list[Path], dict[Path, str]]:
    """Encode the images that can be read.

    Returns:
        Embeddings (n, dim), their files, and why each of the other files could not be read.
    """
    rows: list[Tensor] = []
    readable: list[Path] = []
    unreadable: dict[Path, str] = {}
    waiting: list[Tensor] = []

    def flush() -> None:
        if waiting:
            with torch.no_grad():
                rows.append(clip.model.encode_image(torch.stack(waiting)).float())
            waiting.clear()

    for file in files:
        try:
            waiting.append(clip.preprocess(open_image(file)))
        except Exception as error:  # every codec has its own kind
            unreadable[file] = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
            continue
        readable.append(file)
        if len(waiting) == batch_size:
            flush()
    flush()
    z = torch.cat(rows) if rows else torch.empty(0, int(clip.model.visual.output_dim))
    return z, readable, unreadable


def contact_sheet(
    pairs: Sequence[tuple[Path, Decision]], names: Sequence[str], path: Path, columns: int = 8
) -> None:
    """Draw thumbnails; a blocked one has a thick frame, says so, and names the concept."""
    columns = min(columns, len(pairs))
    num_rows = math.ceil(len(pairs) / columns)
    figure, axes = new_figure(columns, num_rows, size=(1.35, 1.62))
    for axis in axes:
        axis.set_axis_off()
    for axis, (file, d) in zip(axes, pairs, strict=False):
        axis.set_axis_on()
        image = open_image(file)
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        axis.imshow(image)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.grid(visible=False)
        for spine in axis.spines.values():
            spine.set_visible(True)
            spine.set_linewidth(3.5 if d.blocked else 0.6)
            spine.set_color(COLORS[1] if d.blocked else "0.6")
        if d.blocked:
            k = d.concepts[0]
            name = names[k] if len(names[k]) <= 26 else names[k][:25] + "…"
            wrapped = name if len(name) <= 15 else _wrap(name, 15)
            axis.set_title(f"BLOCKED {d.scores[k]:.2f}", fontsize=6.5, fontweight="bold", pad=3)
            axis.set_xlabel(wrapped, fontsize=6, labelpad=2)
        else:
            axis.set_title(f"passes {max(d.scores):.2f}", fontsize=6.5, pad=3, color="0.3")
    save_figure(figure, path)


def _wrap(text: str, width: int) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width))
