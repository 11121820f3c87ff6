import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FrameReader, type Parser, type Want } from './frame-reader.ts';
import { patternBytes } from './testing/memory-device.ts';

type Step = { readonly kind: 'take' | 'fill' | 'skip'; readonly count: number };

const step = fc.record({
  kind: fc.constantFrom('take' as const, 'fill' as const, 'skip' as const),
  // Around the staging buffer's size too, where a take no longer fits and a skip needs several rounds.
  count: fc.oneof(fc.nat({ max: 40 }), fc.nat({ max: 3000 }), fc.integer({ min: 65_000, max: 140_000 })),
});

/** Asks for each step in turn and keeps what it was given. */
function* collect(steps: readonly Step[], given: (Uint8Array | undefined)[]): Parser<void> {
  for (const { kind, count } of steps) {
    if (kind === 'fill') {
      const fill = new Uint8Array(count);
      yield { fill };
      given.push(fill);
    } else if (kind === 'skip') {
      yield { skip: count };
      given.push(undefined);
    } else given.push(Uint8Array.from(yield { take: count }));
  }
}

function expectedParts(steps: readonly Step[], stream: Uint8Array): (Uint8Array | undefined)[] {
  let at = 0;
  return steps.map(({ kind, count }) => {
    const part = stream.slice(at, (at += count));
    return kind === 'skip' ? undefined : part;
  });
}

/** toEqual takes seconds over some MiB. */
function sameBytes(left: Uint8Array | undefined, right: Uint8Array | undefined): boolean {
  return left && right ? Buffer.compare(left, right) === 0 : left === right;
}

describe('FrameReader', () => {
  const steps = fc.array(step, { minLength: 1, maxLength: 8 });
  const cuts = fc.array(fc.oneof(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 1, max: 200_000 })), {
    minLength: 1,
    maxLength: 20,
  });

  it('gives the same parts however the stream is cut, pushed or read in place', () => {
    fc.assert(
      fc.property(steps, cuts, fc.boolean(), (wanted, sizes, inPlace) => {
        const stream = patternBytes(wanted.reduce((sum, { count }) => sum + count, 0) + 3);
        const given: (Uint8Array | undefined)[] = [];
        const reader = new FrameReader(collect(wanted, given));
        let at = 0;
        for (let round = 0; at < stream.length && !reader.finished; round++) {
          const size = sizes[round % sizes.length] ?? 1;
          const space = reader.space();
          expect(space.length).toBeGreaterThan(0);
          if (inPlace) {
            const part = stream.subarray(at, at + Math.min(size, space.length));
            space.set(part);
            at += part.length;
            reader.commit(part.length);
          } else {
            reader.push(stream.subarray(at, at + size));
            at += size;
          }
        }
        expect(reader.finished).toBe(true);
        const same = expectedParts(wanted, stream).every((part, index) => sameBytes(part, given[index]));
        expect(same).toBe(true);
        expect(given).toHaveLength(wanted.length);
      }),
      { numRuns: 100 },
    );
  });

  it('works for every single split of a small stream', () => {
    const wanted: Step[] = [
      { kind: 'take', count: 4 },
      { kind: 'fill', count: 5 },
      { kind: 'skip', count: 3 },
      { kind: 'take', count: 0 },
      { kind: 'take', count: 2 },
    ];
    const stream = patternBytes(14);
    for (let first = 0; first <= stream.length; first++) {
      for (let second = first; second <= stream.length; second++) {
        const given: (Uint8Array | undefined)[] = [];
        const reader = new FrameReader(collect(wanted, given));
        for (const part of [stream.subarray(0, first), stream.subarray(first, second), stream.subarray(second)])
          reader.push(part);
        expect(given).toEqual(expectedParts(wanted, stream));
      }
    }
  });

  it('hands out the memory of the target itself, so that a payload is not copied', () => {
    const target = new Uint8Array(1000);
    const reader = new FrameReader(
      (function* (): Generator<Want, void, Uint8Array> {
        yield { take: 4 };
        yield { fill: target };
      })(),
    );
    reader.push(new Uint8Array(4));
    expect(reader.space().buffer).toBe(target.buffer);
    expect(reader.space()).toHaveLength(1000);
    reader.commit(10);
    expect(reader.space().byteOffset).toBe(10);
  });

  it('passes on what the parser throws, and swallows the rest of the stream', () => {
    const reader = new FrameReader(
      (function* (): Generator<Want, void, Uint8Array> {
        yield { take: 2 };
        throw new Error('no sense');
      })(),
    );
    expect(() => reader.push(new Uint8Array(3))).toThrow('no sense');
    expect(reader.finished).toBe(true);
    reader.push(new Uint8Array(200_000));
    expect(reader.space().length).toBeGreaterThan(0);
  });
});
