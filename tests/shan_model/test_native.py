"""Tests of the native implementation against torch, and of its fallback."""

import os
import platform

import numpy as np
import pytest
import torch

from shan_model import native
from tests.support.alignments import build_alignments, random_matrices, reference_scores

REGIONS, WORDS = [10, 3, 10, 7], [2, 5, 1, 5, 9]
COMPILERS = {
    "none": (None, "No such file"),
    "fails": ("echo no cc1plus >&2; exit 1", r"\(no cc1plus\)"),
    "makes nothing": ("exit 0", "cannot open"),
    "makes junk": ('if [ "${@: -3:1}" = -o ]; then echo junk > "${@: -2:1}"; fi', "file too short"),
}


@pytest.mark.skipif(native.library() is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("width", "gate_per_level"), [(5, False), (64, True), (100, False), (192, True)])
def test_native_scores_equal_the_torch_scores(width, gate_per_level, threads):
    _, batched = build_alignments(torch.float32, width, gate_per_level=gate_per_level)
    regions, words = (
        random_matrices([1, 36, 36, 17, 100], torch.float32, width),
        random_matrices([1, 14, 9, 14, 40], torch.float32, width),
    )
    by_torch = batched(regions, words).detach()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    with torch.no_grad():
        photos, captions = batched.photo_groups(regions), batched.caption_groups(words)
        assert photos[0].items.channels.shape[-1] == native.PANEL
        block = batched.score_block(photos, captions)
        rows, columns = np.divmod(np.arange(25), 5)
        listed = batched.score_list(photos, captions, rows, columns).view(5, 5)
    torch.set_num_threads(before)
    torch.testing.assert_close(block, by_torch, rtol=0, atol=3e-6)
    torch.testing.assert_close(listed, by_torch, rtol=0, atol=3e-6)


@pytest.mark.skipif(native.library() is None, reason="needs a C++ compiler")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="AVX-512 is of x86-64")
def test_processors_without_avx_512_give_the_same_scores(monkeypatch):
    _, batched = build_alignments(torch.float32, 192)
    regions = random_matrices([1, 36, 17], torch.float32, 192)
    words = random_matrices([1, 14, 40], torch.float32, 192)
    by_torch = batched(regions, words).detach()
    monkeypatch.setenv("CXX", f"{os.environ.get('CXX') or 'c++'} -mno-avx512f")
    native.library.cache_clear()
    try:
        with torch.no_grad():
            torch.testing.assert_close(batched(regions, words), by_torch, rtol=0, atol=3e-6)
    finally:
        native.library.cache_clear()


@pytest.mark.parametrize(("script", "reason"), COMPILERS.values(), ids=COMPILERS)
def test_without_a_working_compiler_torch_gives_the_same_scores(script, reason, monkeypatch, tmp_path):
    reference, batched = build_alignments(torch.float32)
    regions, words = random_matrices(REGIONS, torch.float32), random_matrices(WORDS, torch.float32, seed=2)
    compiler = tmp_path / "compiler"
    if script is not None:
        compiler.write_text(f"#!/bin/bash\n{script}\n")
        compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("HOME", str(tmp_path))
    native.library.cache_clear()
    try:
        with pytest.warns(UserWarning, match=f"native scoring cannot be compiled.*{reason}"):
            assert native.library() is None
        with torch.no_grad():
            assert batched.photo_groups(regions)[0].items.channels.dim() == 3
            torch.testing.assert_close(
                batched(regions, words), reference_scores(reference, regions, words), rtol=0, atol=1e-5
            )
    finally:
        native.library.cache_clear()


@pytest.fixture
def compilations(monkeypatch, tmp_path):
    """Counts compilations by `library`, in a new home folder."""
    log, compiler = tmp_path / "log", tmp_path / "compiler"
    compiler.write_text(f'#!/bin/bash\n[[ " $* " == *" -E "* ]] || echo >> {log}\nexec c++ "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("HOME", str(tmp_path))
    native.library.cache_clear()
    yield lambda: len(log.read_text().split("\n")) - 1
    native.library.cache_clear()


@pytest.mark.skipif(native.library() is None, reason="needs a C++ compiler")
def test_kernels_are_compiled_once_for_all_processes(compilations, tmp_path):
    assert native.library() is not None
    (kept,) = (tmp_path / ".cache/shan/native").iterdir()
    corrupt = kept.read_bytes()[:100]
    kept.unlink()  # loaded in this process
    kept.write_bytes(corrupt)
    for _ in range(3):
        native.library.cache_clear()
        assert native.library() is not None
    assert compilations() == 2
    assert kept.stat().st_size > 1000


@pytest.mark.skipif(native.library() is None, reason="needs a C++ compiler")
def test_a_folder_that_others_may_write_is_not_used(compilations, tmp_path):
    folder = tmp_path / ".cache/shan/native"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert native.library() is not None
    assert compilations() == 1
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(native.library() is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("exists", [True, False])
def test_a_home_that_cannot_be_used_needs_no_cache(exists, compilations, tmp_path, monkeypatch):
    (tmp_path / ".cache").write_text("")
    if not exists:  # a user ID that has no entry in /etc/passwd
        monkeypatch.delenv("HOME")
        monkeypatch.setattr("os.getuid", lambda: 54321)
    assert native.library() is not None
    assert compilations() == 1


def test_autocast_disables_the_native_implementation():
    reference, batched = build_alignments(torch.float32, 128)
    regions, words = random_matrices(REGIONS, torch.float32, 128), random_matrices(WORDS, torch.float32, 128, seed=2)
    with torch.no_grad():
        expected = reference_scores(reference, regions, words)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(batched(regions, words).float(), expected, rtol=0, atol=0.05)


@pytest.mark.parametrize("gate", ["vector", "scalar"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_scores_of_weights_that_are_not_finite_are_nan(bad, gate):
    """The kernels clamp, so they would give finite scores."""
    regions, words = random_matrices([4, 3], torch.float32), random_matrices([3, 1], torch.float32)
    names = [name for name, _ in build_alignments(torch.float32, gate=gate)[1].named_parameters()]
    assert len(names) == 8
    for name in names:
        _, batched = build_alignments(torch.float32, gate=gate)
        batched.get_parameter(name).data.view(-1)[0] = bad
        with torch.no_grad():
            assert batched(regions, words).isnan().all(), name
        assert batched(regions, words).isnan().all(), name


@pytest.mark.parametrize("gate", ["vector", "scalar"])
def test_scores_that_overflow_are_nan(gate):
    """All weights are finite, but the products of Eq. 3 exceed float32; the reference implementation gives NaN."""
    _, batched = build_alignments(torch.float32, gate=gate)
    regions, words = random_matrices([4, 3], torch.float32), random_matrices([3, 1], torch.float32)
    for name, scale in (("project_regions.weight", 1e18), ("project_words.weight", 1e18)):
        batched.get_parameter(name).data.mul_(scale)
    with torch.no_grad():
        assert batched(regions, words).isfinite().all()
        batched.project_words.weight.mul_(1e3)
        assert batched(regions, words).isnan().all()


def test_native_scores_propagate_zeros_and_nans():
    """NaN inputs must give NaN scores."""
    _, batched = build_alignments(torch.float32)
    with torch.no_grad():
        regions, words = (
            [v.clone() for v in random_matrices([4, 4, 4], torch.float32)],
            random_matrices([3, 1], torch.float32),
        )
        regions[0][:], words[1][:] = 0, 0
        assert torch.isfinite(batched(regions, words)).all()
        regions[1][2, 3] = torch.nan
        assert torch.isnan(batched(regions, words)).tolist() == [[False] * 2, [True] * 2, [False] * 2]
