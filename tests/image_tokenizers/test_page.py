"""The table of the page on images against its stored results."""

import json

from tests.run_folders import ROOT


def test_page_matches_the_stored_results():
    stored = json.loads((ROOT / "experiments/results/image_tokenizers.json").read_text())
    page = (ROOT / "docs/how-to/images.md").read_text()
    for kind, found in stored.items():
        held_out = found["held_out"]
        cells = [f"`{kind}`", found["patch"], found["codes"], f"{held_out['squared_error']:.4f}"]
        cells += [f"{held_out['peak_signal_to_noise']:.1f}", f"{held_out['share_used']:.2f}"]
        cells += [f"{held_out['entropy']:.2f}", f"{held_out['codes_kept']:.3f}"]
        assert f"| {' | '.join(map(str, cells))} |" in page, (kind, cells)
        assert found["lossless"] == (kind == "levels") and held_out["images"] == 260
