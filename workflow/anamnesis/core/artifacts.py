"""Files that are whole or not there: atomic writes, checked reads, and digests."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from anamnesis.core.errors import UserError, first_line

DIGEST = "sha256"  # in the header of safetensors: over names, types, shapes and contents
SUMS = "SHA256SUMS"
BATCH_ROWS = 1 << 15  # of a large table that are in memory at a time
LEAST_FREE = 1 << 20  # bytes; with less, not even logs can be written
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # EFBIG: the limit of ulimit -f, or of the file system


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary file in the folder of ``path``; it becomes ``path`` if the block raises nothing."""
    path = Path(path)
    with _with_remedy(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # in the same folder: os.replace is atomic only within one file system
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        part = Path(name)
        try:
            yield part
            _sync(part)  # before the rename: after a power failure the name must not stand for an empty file
            part.chmod(0o666 & ~_umask())  # mkstemp opens it for its owner alone
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """As ``atomic_path`` for a folder: the old one stays until the new one is complete."""
    path = Path(path)
    with _with_remedy(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        try:
            yield part
            for file in part.rglob("*"):
                if file.is_file():
                    _sync(file)
                    file.chmod(0o666 & ~_umask())  # some libraries write for the owner alone
            part.chmod(0o777 & ~_umask())
            _swap(part, path)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _swap(new: Path, path: Path) -> None:
    """Replace the folder ``path`` by ``new``; the old one comes back if that fails."""
    old = new.with_suffix(".old")  # a rename cannot replace a folder that holds something
    if path.exists():
        os.replace(path, old)
    try:
        os.replace(new, path)
    except OSError:
        if old.exists():
            os.replace(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _with_remedy(path: Path) -> Iterator[None]:
    """Turn the system's errors of writing into one line with a remedy."""
    try:
        yield
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        # safetensors raises a class of its own, without errno: only its text says that the disk is full
        if number in _FULL or re.search("No space left|quota exceeded|File too large", str(error)):
            raise UserError(
                f"no space left to write {path}: free some (or set `results` to another disk) and run again"
            ) from error
        if number in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise UserError(
                f"{path} cannot be written ({error.strerror}): make its folder writable, or set `results` to "
                "another one"
            ) from error
        raise


def check_writable(results: str | Path) -> None:
    """Raise UserError unless files can be written to the folder ``results``, which need not exist yet."""
    folder = Path(results).absolute()
    existing = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    try:
        os.stat(folder)
        unusable = None
    except OSError as error:
        unusable = error.strerror if error.errno in (errno.ENAMETOOLONG, errno.ELOOP) else None
    if unusable:
        reason = unusable
    elif not existing.is_dir():
        reason = f"{existing} is not a folder"
    elif not os.access(existing, os.W_OK | os.X_OK):
        reason = f"{existing} is not writable"
    elif shutil.disk_usage(existing).free < LEAST_FREE:
        reason = f"no space left on the disk of {existing}"
    else:
        return
    raise UserError(
        f"results = '{results}': nothing can be written there ({reason}); mend that, or set `results` to "
        "another folder"
    )


def _sync(file: Path) -> None:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | Path, text: str) -> None:
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Mapping) -> None:
    write_text(path, json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, default=str) + "\n")


def read_json(path: str | Path) -> dict:
    """The object in a JSON file. Raises UserError when it is missing, damaged or holds anything else."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, error) from error
    return content


def write_parquet(path: str | Path, frame, types: Mapping[str, str] | None = None) -> None:
    """Write a frame, with a checksum for each page of data.

    ``types``: column -> text, integer, texts or numbers (lists of them), of columns that may be without any
    value. All files of a kind have the same types then, so that other tools read them as one table.
    """
    import pyarrow as pa

    known = {"text": pa.string(), "integer": pa.int64(), "texts": pa.list_(pa.string())}
    known["numbers"] = pa.list_(pa.float64())
    schema = pa.Schema.from_pandas(frame, preserve_index=False)
    for name, kind in (types or {}).items():
        place = schema.get_field_index(name)
        if place >= 0 and pa.types.is_null(schema.field(place).type):
            schema = schema.set(place, pa.field(name, known[kind]))
    with atomic_path(path) as part:
        # without checksums, a damaged page gives wrong numbers
        frame.to_parquet(part, index=False, compression="zstd", write_page_checksum=True, schema=schema)


def read_parquet(path: str | Path, columns: Sequence[str] = ()):
    """The frame in a parquet file. Raises UserError when the file is missing, cut short, damaged (where its
    pages have checksums) or lacks one of ``columns``.
    """
    import pandas as pd

    try:
        frame = pd.read_parquet(path, page_checksum_verification=True)
    except Exception as error:  # pyarrow raises several kinds for a damaged file
        raise _unreadable(path, error) from error
    _require(path, columns, frame.columns)
    for name in _without_values(path, frame):  # as they were when they were written, whatever their type says
        frame[name] = pd.Series([None] * len(frame), dtype=object)
    return frame


def _without_values(path: str | Path, frame) -> list[str]:
    """The columns in which Python objects were written, and not one but None."""
    import pyarrow.parquet

    empty = [name for name in frame.columns if not frame[name].notna().any()]
    if not empty:
        return []
    about = pyarrow.parquet.read_schema(path).pandas_metadata or {"columns": []}
    objects = {column["name"] for column in about["columns"] if column["numpy_type"] == "object"}
    return [name for name in empty if name in objects]


def read_batches(path: str | Path, columns: Sequence[str]) -> Iterator:
    """The ``columns`` of a parquet file, in frames of ``BATCH_ROWS`` rows, at least one: memory does not grow
    with the file. All columns are read and checked. Raises UserError as ``read_parquet`` does.
    """
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path, page_checksum_verification=True) as file:
            _require(path, columns, file.schema_arrow.names)
            # so that a file without rows gives a frame with its columns and types
            yield file.schema_arrow.empty_table().select(columns).to_pandas()
            for batch in file.iter_batches(BATCH_ROWS):
                yield batch.select(columns).to_pandas()
    except UserError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def _require(path: str | Path, columns: Sequence[str], present: Sequence[str]) -> None:
    missing = [c for c in columns if c not in present]
    if missing:
        names, columns = ", ".join(missing), ", ".join(map(str, present))
        raise UserError(f"{path} lacks the column{'s' * (len(missing) > 1)} {names}: it has {columns}")


def write_tensors(path: str | Path, tensors: Mapping, header: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors, with their digest in the header, and ``format: pt`` as others write."""
    from safetensors.torch import save_file

    plain = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    with atomic_path(path) as part:
        save_file(plain, part, metadata={"format": "pt", **(header or {}), DIGEST: _digest_tensors(plain)})
        _sort_header(part)


def _sort_header(file: Path) -> None:
    """Sort the header, so that the same tensors give the same bytes: safetensors writes its entries in
    another order each time. The header is JSON after its length in eight bytes, padded with blanks.
    """
    with file.open("r+b") as handle:
        length = int.from_bytes(handle.read(8), "little")
        header = json.loads(handle.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        # a longer header would move the tensors behind it: then the order stays as it is
        if len(text) <= length:
            handle.seek(8)
            handle.write(text.ljust(length))


def read_tensors(path: str | Path) -> dict:
    """The tensors in a safetensors file. Raises UserError when the file is missing, cut short, or does not
    match the digest in its header.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            expected = (file.metadata() or {}).get(DIGEST)
        if expected not in (None, _digest_tensors(tensors)):
            raise ValueError("its content is not what was written")
    except Exception as error:  # safetensors raises its own kinds for a damaged file
        raise _unreadable(path, error) from error
    return tensors


def read_header(path: str | Path) -> dict[str, str]:
    """The header of a safetensors file, as given to :func:`write_tensors`. Raises UserError for a missing or
    damaged file.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except Exception as error:  # safetensors raises its own kinds
        raise _unreadable(path, error) from error


def _digest_tensors(tensors: Mapping) -> str:
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def write_sums(folder: str | Path) -> None:
    """Write the digests of all files below ``folder`` to its SHA256SUMS, which ``sha256sum -c`` reads."""
    folder = Path(folder)
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != SUMS)
    lines = [f"{digest_file(file)}  {file.relative_to(folder).as_posix()}\n" for file in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def damaged_file(folder: str | Path) -> str | None:
    """The first file below ``folder`` that is missing or differs from its SHA256SUMS; None when all agree.

    It is SHA256SUMS itself when that is damaged or leaves out weights. Raises OSError without that file.
    """
    folder, listed = Path(folder), set()
    for line in (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines():
        expected, _, name = line.partition("  ")
        file = folder / name
        if not file.is_file() or digest_file(file) != expected:
            return name or SUMS
        listed.add(file)
    return None if listed.issuperset(folder.rglob("*.safetensors")) else SUMS


def _unreadable(path, error: Exception) -> UserError:
    if not Path(path).exists():
        return UserError(
            f"{path} does not exist: run the workflow again, or check the path in the configuration"
        )
    return UserError(
        f"{path} cannot be read ({first_line(error)}): it is damaged or incomplete; delete it and run again"
    )


def digest_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest_json(content) -> str:
    """SHA-256 of a JSON-able value, independent of key order."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
