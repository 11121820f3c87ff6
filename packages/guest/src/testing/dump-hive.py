"""Prints every key and value of a registry hive as JSON, read by libregf: an oracle that neither we nor hivex wrote."""
import json
import sys

import pyregf

keys = {}


def walk(key, path):
    values = {}
    for value in key.values:
        values[value.name or ""] = [value.type, (value.data or b"").hex()]
    keys[path] = values
    for child in key.sub_keys:
        walk(child, path + "\\" + child.name if path else child.name)


hive = pyregf.file()
hive.open(sys.argv[1])
walk(hive.get_root_key(), "")
json.dump(keys, sys.stdout)
