"""Checks what the program is built from: licences that go with Apache-2.0, one version of each crypto crate, and no async
crate in the build that is to have none."""
import collections
import json
import re
import subprocess
import sys

FREE = {"MIT", "Apache-2.0", "BSD-3-Clause", "BSD-2-Clause", "ISC", "Unicode-3.0", "Unlicense", "Zlib", "0BSD", "CC0-1.0",
        "Apache-2.0 WITH LLVM-exception"}
# Weak copyleft by file: using an unchanged crate asks for nothing but saying where its source is, which Cargo.lock does.
FREE_UNCHANGED = {"fernet": "MPL-2.0"}
CRYPTO = {"fernet", "hmac", "sha1", "sha2", "subtle", "hkdf", "aes", "cbc", "argon2", "x25519-dalek", "curve25519-dalek",
          "zeroize", "base64", "rand_chacha", "digest", "cipher", "blake2"}


def free(expression):
    """Whether every AND part of an SPDX expression offers a licence that we can take."""
    parts = re.split(r"\s+AND\s+", expression.replace("(", "").replace(")", "").replace("/", " OR "))
    return all(any(choice.strip() in FREE for choice in re.split(r"\s+OR\s+", part)) for part in parts)


metadata = json.loads(subprocess.check_output(["cargo", "metadata", "--format-version=1", "--locked"]))
trouble = [f"{p['name']} {p['version']}: licence {p['license']!r}" for p in metadata["packages"]
           if not free(p["license"] or "none") and FREE_UNCHANGED.get(p["name"]) != p["license"]]
# What only tests need may have versions of its own.
tree = subprocess.check_output(["cargo", "tree", "--workspace", "-e", "normal", "--prefix", "none", "--locked"], text=True)
versions = collections.defaultdict(set)
for line in tree.splitlines():
    if line.strip():
        name, version = line.split()[:2]
        versions[name].add(version)
trouble += [f"{name}: {', '.join(sorted(found))}" for name, found in versions.items() if name in CRYPTO and len(found) > 1]
# The runtime on threads is there to do without these.
small = subprocess.check_output(["cargo", "tree", "-p", "gesher", "--no-default-features", "--features", "std", "-e", "normal",
                                 "--prefix", "none", "--locked"], text=True)
trouble += sorted({f"{line.split()[0]}: an async crate in the build without one" for line in small.splitlines()
                   if re.match(r"async-|futures|smol|polling|tokio|mio|event-listener", line)})
print(f"{len(versions)} crates in the program")
if trouble:
    sys.exit("\n".join(trouble))
