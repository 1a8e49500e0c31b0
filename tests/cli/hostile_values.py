"""Values that options must refuse; placeholders stand for what hostile_place.py makes."""

LONG = "n" * 300
NOT_WHOLE = ["", "x", "nan", "1.5", "1e3", "9" * 5000, "\u0663x", "-", "0x10", "\udcff"]  # of whole numbers
NOT_NUMBERS = ["", "x", "nan", "inf", "-inf", "1e999", "1,5", "\udcff"]
WORDS = ["nonsense", " ", "Probability", "\udcff", LONG, "ar,ar", "a b", "-"]
# a folder to write to, or a file in one
UNWRITABLE = ["/proc/a", "/proc/a/b", "{text}/a", LONG, "{masked}/" + LONG, "/dev/null/a"]
NO_SEED = ["4294967296", "-1", *NOT_WHOLE]
MISSING = ["{new}", "{new}/a", LONG, "/dev/null/a", "\udcff", "a\nb"]
NO_RUN = [*MISSING, "", "{text}", "{empty}", "{binary}", "{broken_run}", "{list_run}", "{edited_run}", "{bare_run}"]
NO_TEXT = [*MISSING, "", "{empty}", "{binary}", "{broken_gz}", "{broken_jsonl}", "{nothing}"]
NO_TEXT += ["/dev/zero", ",", "[", "**"]
NO_PICTURES = [*MISSING, "", "{empty}", "{text}", "{binary}", "{broken_jsonl}", "{list_json}"]
NO_PICTURES += [",", "tfds:", "tfds:no/such", "{number_image}"]
NO_CODES = [*MISSING, "", "{empty}", "{text}", "{binary}", "{list_json}", "{model}"]
NO_RESULTS = ["{broken_json}", "{list_json}", "{empty}"]
NO_FITS = [*MISSING, *NO_RESULTS, "{damaged_fits}"]
NO_SWEEP = [*MISSING, "{empty}", "{text}"]  # folder
NO_EXPERIMENT = [*MISSING, "", "{empty}", "{binary}", "{text}", "{raising}", "{no_grid}", "{empty_grid}", "{bad_grid}"]
NO_CONFIG = [*MISSING, "", "{empty}", "{binary}", "{text}", "{raising}", "{none_config}", "{dict_config}", "key"]
SAMPLERS = [*WORDS, ":", "{text}:f", "{raising}:f", "nothing:f"]
SAMPLERS += [f"confidence:{field}" for field in ("", "rule", "rule=", "limit=x", "what=1")]
SAMPLERS += [
    "remasking:eta=nan",
    "ancestral:guidance_min_time=0.5",
    "ancestral:guidance_max_time=2",
    "ancestral:steps=0",
    "ancestral:steps=1.5",
]


def below(least: int) -> list[str]:
    """Whole numbers that are too small, and what is none."""
    return [str(least - 1), str(least - 2), "-9223372036854775809", *NOT_WHOLE]
