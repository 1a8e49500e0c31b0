"""How loss falls with compute: counting it, spending it over a ladder of sizes, fitting and reporting the laws."""
