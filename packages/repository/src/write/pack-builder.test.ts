import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { hasCode } from '@lifeboat/foundation/errors';

import { hashSealed, parsePack } from '../format/pack.ts';
import { chunkId, openBlob, openToc, packKey } from '../seal/blob-seal.ts';
import { zstd, type Compression } from '../seal/codec.ts';
import { PackBuilder, type PackOwner } from './pack-builder.ts';

const owner: PackOwner = {
  kind: 'data',
  tenantId: Buffer.alloc(16, 1),
  chunkIdKey: Buffer.alloc(32, 2),
  baseKey: Buffer.alloc(32, 3),
  generation: new Uint8Array(0),
  access: { epoch: 1, sealedSessionKey: Buffer.alloc(80, 4) },
};
const compression = zstd(1);

function build(
  contents: readonly Uint8Array[],
  options: { owner?: PackOwner; compression?: Compression } = {},
): { bytes: Uint8Array; pack: ReturnType<PackBuilder['finish']> } {
  const buffer = new Uint8Array(new SharedArrayBuffer(16_384));
  const builder = new PackBuilder({ owner, compression, buffer, ...options });
  for (const plain of contents) builder.add(chunkId(owner.chunkIdKey, plain), plain);
  const pack = builder.finish();
  return { bytes: Uint8Array.from(buffer.subarray(0, pack.sizeBytes)), pack };
}

const contents = fc.array(
  fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 300 }),
    fc.nat(255).map((value) => new Uint8Array(500).fill(value)),
  ),
  { minLength: 1, maxLength: 6 },
);

describe('a pack', () => {
  test('opens to what was put in, blob by blob', () => {
    fc.assert(
      fc.property(contents, (plains) => {
        const { bytes, pack } = build(plains);
        const layout = parsePack(bytes, 'it');
        expect(layout.name).toBe(pack.name);
        const key = packKey(owner.baseKey, layout.header.salt);
        const opening = { key, kind: 'data' as const, tenantId: owner.tenantId, chunkIdKey: owner.chunkIdKey };
        expect(openToc(opening, layout.sealedToc, 'it').plainBytes).toEqual(plains.map((plain) => plain.length));
        for (const [i, plain] of plains.entries()) {
          const ref = pack.blobs[i];
          if (!ref) throw new Error('a blob is missing');
          const sealed = bytes.subarray(ref.offsetBytes, ref.offsetBytes + ref.lengthBytes);
          expect(hashSealed(sealed)).toEqual(Buffer.from(layout.blobs[i]?.hash ?? []));
          const opened = openBlob({ ...opening, ...ref, plain: { exactBytes: plain.length } }, sealed, compression);
          expect('plain' in opened && Buffer.from(opened.plain)).toEqual(Buffer.from(plain));
        }
      }),
    );
  });

  test('is the same object for the same content, and shares no key with any other', () => {
    fc.assert(
      fc.property(contents, contents, (a, b) => {
        expect(Buffer.compare(build(a).bytes, build(a).bytes)).toBe(0);
        const same =
          Buffer.concat(a).equals(Buffer.concat(b)) &&
          a.length === b.length &&
          a.every((x, i) => x.length === b[i]?.length);
        const salts = [a, b].map((plains) =>
          Buffer.from(parsePack(build(plains).bytes, 'it').header.salt).toString('hex'),
        );
        expect(salts[0] === salts[1]).toBe(same);
      }),
    );
  });

  test('sealed anew under another generation, or as another kind, gets another name and key', () => {
    const plains = [Buffer.from('content')];
    const map: PackOwner = { ...owner, kind: 'map', access: { machineId: 'm' } };
    const packs = [
      build(plains),
      build(plains, { owner: { ...owner, generation: Buffer.from('list-1') } }),
      build(plains, { owner: map }),
      build(plains, { owner: { ...map, kind: 'set' } }),
    ];
    expect(new Set(packs.map(({ pack }) => pack.name)).size).toBe(4);
    expect(
      new Set(packs.map(({ bytes }) => Buffer.from(parsePack(bytes, 'it').header.salt).toString('hex'))).size,
    ).toBe(4);
  });

  test('shows every flipped bit without a key: by its structure, its name, or the hash of a blob', () => {
    fc.assert(
      fc.property(contents, fc.nat(), fc.integer({ min: 0, max: 7 }), (plains, at, bit) => {
        const { bytes, pack } = build(plains);
        const position = at % bytes.length;
        bytes[position] = (bytes[position] ?? 0) ^ (1 << bit);
        expect(isSoundWithoutKey(bytes, pack.name)).toBe(false);
      }),
      { numRuns: 500 },
    );
  });

  test('shows every truncation and extension without a key', () => {
    fc.assert(
      fc.property(contents, fc.nat(), (plains, at) => {
        const { bytes, pack } = build(plains);
        expect(isSoundWithoutKey(bytes, pack.name)).toBe(true);
        expect(isSoundWithoutKey(bytes.subarray(0, at % bytes.length), pack.name)).toBe(false);
        expect(isSoundWithoutKey(Buffer.concat([bytes, Buffer.alloc(1 + (at % 9))]), pack.name)).toBe(false);
      }),
    );
  });

  test('does not open a blob in another slot, under another id, from another tenant, or as another kind', () => {
    const plain = Buffer.from('content');
    const { bytes, pack } = build([plain, Buffer.from('other')]);
    const ref = pack.blobs[0];
    if (!ref) throw new Error('a blob is missing');
    const sealed = bytes.subarray(ref.offsetBytes, ref.offsetBytes + ref.lengthBytes);
    const right = {
      key: packKey(owner.baseKey, parsePack(bytes, 'it').header.salt),
      kind: 'data' as const,
      tenantId: owner.tenantId,
      chunkIdKey: owner.chunkIdKey,
      id: ref.id,
      slot: ref.slot,
      plain: { exactBytes: plain.length },
    };
    expect(openBlob(right, sealed, compression)).toHaveProperty('plain');
    const id = chunkId(owner.chunkIdKey, Buffer.from('other'));
    for (const wrong of [{ slot: 1 }, { id }, { tenantId: Buffer.alloc(16, 9) }, { kind: 'map' as const }]) {
      expect(openBlob({ ...right, ...wrong }, sealed, compression)).toEqual({ failure: 'its seal does not open' });
    }
    expect(openBlob({ ...right, plain: { exactBytes: 6 } }, sealed, compression)).toHaveProperty('failure');
    expect(openBlob({ ...right, chunkIdKey: Buffer.alloc(32) }, sealed, compression)).toEqual({
      failure: 'its content does not match its id',
    });
  });

  test('stores what does not compress as it is, and the rest compressed', () => {
    const noise = Buffer.from(Array.from({ length: 400 }, (_, i) => (i * i * 31 + (i >> 3) * 7) & 255));
    const { pack } = build([noise, Buffer.alloc(4000, 'ab')]);
    expect(pack.blobs[0]?.lengthBytes).toBe(400 + 17);
    expect(pack.blobs[1]?.lengthBytes).toBeLessThan(60);
  });
});

describe('a compressor that lies', () => {
  const flipping = (flip: (packed: Uint8Array) => Uint8Array): Compression => ({
    compress: (plain) => flip(compression.compress(plain)),
    decompress: (packed, maxBytes) => compression.decompress(packed, maxBytes),
  });

  test('by one bit, anywhere, never gets a pack finished', () => {
    const plain = Buffer.alloc(4000, 'some text that compresses ');
    const packedBytes = compression.compress(plain).length;
    for (let bit = 0; bit < packedBytes * 8; bit++) {
      const faulty = flipping((packed) => {
        const copy = Uint8Array.from(packed);
        copy[bit >> 3] = (copy[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        return copy;
      });
      let outcome: unknown = 'finished';
      try {
        const { bytes, pack } = build([plain], { compression: faulty });
        // A flipped bit that zstd ignores is none: then the pack must open to the right content.
        expect(isSoundWithoutKey(bytes, pack.name)).toBe(true);
        outcome = compression.decompress(faulty.compress(plain), plain.length);
        expect(Buffer.from(outcome as Uint8Array)).toEqual(plain);
      } catch (error) {
        if (!hasCode(error, 'repository.sealing-mismatch')) throw error;
        outcome = 'refused';
      }
      expect(outcome).not.toBe('finished');
    }
  });

  test('by forgetting the end never gets a pack finished', () => {
    expect(() =>
      build([Buffer.alloc(4000, 'ab')], { compression: flipping((packed) => packed.subarray(0, -1)) }),
    ).toThrowError(/did not open again/);
  });
});

function isSoundWithoutKey(bytes: Uint8Array, name: string): boolean {
  try {
    const layout = parsePack(bytes, 'it');
    return (
      layout.name === name &&
      layout.blobs.every(({ offsetBytes, lengthBytes, hash }) =>
        hashSealed(bytes.subarray(offsetBytes, offsetBytes + lengthBytes)).equals(hash),
      )
    );
  } catch (error) {
    if (hasCode(error, 'repository.object-damaged', 'repository.newer-version')) return false;
    throw error;
  }
}
