# The published bucket formula in plain Python: a salt and a key as JSON per line, a bucket out.
import json, sys

M = (1 << 64) - 1
P1, P2, P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P4, P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


def rotl(x, r):
    return ((x << r) | (x >> (64 - r))) & M


def mix(acc, lane):
    return rotl((acc + lane * P2) & M, 31) * P1 & M


def xxh64(data):
    word = lambda at, size: int.from_bytes(data[at : at + size], "little")
    at, end = 0, len(data)
    h = P5
    if end >= 32:
        acc = [(P1 + P2) & M, P2, 0, -P1 & M]
        while at + 32 <= end:
            acc = [mix(a, word(at + 8 * i, 8)) for i, a in enumerate(acc)]
            at += 32
        h = sum(rotl(a, r) for a, r in zip(acc, (1, 7, 12, 18))) & M
        for a in acc:
            h = ((h ^ mix(0, a)) * P1 + P4) & M
    h = (h + end) & M
    while at + 8 <= end:
        h = (rotl(h ^ mix(0, word(at, 8)), 27) * P1 + P4) & M
        at += 8
    if at + 4 <= end:
        h = (rotl(h ^ (word(at, 4) * P1 & M), 23) * P2 + P3) & M
        at += 4
    for byte in data[at:]:
        h = rotl(h ^ (byte * P5 & M), 11) * P1 & M
    h = (h ^ (h >> 33)) * P2 & M
    h = (h ^ (h >> 29)) * P3 & M
    return h ^ (h >> 32)


for line in sys.stdin:
    salt, key = json.loads(line)
    print(xxh64(salt.encode() + b"\0" + key.encode()) * 10000 >> 64)
