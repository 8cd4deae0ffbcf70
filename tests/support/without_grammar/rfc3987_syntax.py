"""Replace the grammar that jsonschema loads for international addresses.

jsonschema, which checks schemas and notebooks, builds the grammar in each process when it is imported. That takes a
second or two, and no test needs it. jsonschema works without this optional module.
"""

raise ImportError("the tests do without this grammar")
