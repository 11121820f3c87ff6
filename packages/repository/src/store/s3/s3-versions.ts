/**
 * Versions of objects in a bucket that keeps them.
 *
 * Of each name the earliest version is the object: it was put when nobody else could have known the name, and what came later,
 * an overwrite or a delete marker, is somebody else's. Services list the versions of a name together, newest first.
 */
import { ListObjectVersionsCommand, type ListObjectVersionsCommandOutput, type S3Client } from '@aws-sdk/client-s3';
import { LifeboatError } from '@lifeboat/foundation/errors';

import { LruCache } from '../../read/lru.ts';
import type { ObjectInfo } from '../object-store.ts';
import type { S3Calls } from './s3-calls.ts';
import { describePlace, type S3Place } from './s3-place.ts';

/** Names whose version is remembered, about 250 bytes each: the packs of two terabytes. */
const MAX_REMEMBERED = 65_536;

export interface Version {
  readonly key: string;
  readonly versionId: string;
  /** Undefined: a delete marker. */
  readonly sizeBytes: number | undefined;
  /** When it was put, by the service's clock, Unix ms. */
  readonly createdMs: number;
}

export class S3Versions {
  readonly #client: S3Client;
  readonly #calls: S3Calls;
  readonly #place: S3Place;
  readonly #earliest = new LruCache<string, Version & { readonly sizeBytes: number }>(MAX_REMEMBERED);

  constructor(deps: { client: S3Client; calls: S3Calls; place: S3Place }) {
    this.#client = deps.client;
    this.#calls = deps.calls;
    this.#place = deps.place;
  }

  /** Every version and delete marker of one name, newest first. */
  async *of(name: string, signal?: AbortSignal): AsyncIterable<Version> {
    const key = this.#place.prefix + name;
    for await (const version of this.#list(key, signal)) {
      // Names that go on behind this one sort behind all its versions.
      if (version.key !== key) return;
      yield version;
    }
  }

  /** The version that is the object; undefined when there is none. Remembered: it never changes while the object lives. */
  async earliest(name: string, signal?: AbortSignal): Promise<(Version & { readonly sizeBytes: number }) | undefined> {
    const known = this.#earliest.get(name);
    if (known) return known;
    let found: (Version & { readonly sizeBytes: number }) | undefined;
    for await (const version of this.of(name, signal)) {
      if (version.sizeBytes !== undefined) found = { ...version, sizeBytes: version.sizeBytes };
    }
    if (found) this.#earliest.set(name, found);
    return found;
  }

  forget(name: string): void {
    this.#earliest.delete(name);
  }

  /** Every name that has a version that is no delete marker, with the size of its earliest one. */
  async *names(prefix: string, signal?: AbortSignal): AsyncIterable<ObjectInfo> {
    let current: { name: string; sizeBytes: number } | undefined;
    for await (const { key, sizeBytes } of this.#list(this.#place.prefix + prefix, signal)) {
      if (sizeBytes === undefined) continue;
      const name = key.slice(this.#place.prefix.length);
      if (current && current.name !== name) yield current;
      current = { name, sizeBytes };
    }
    if (current) yield current;
  }

  async *#list(prefix: string, signal: AbortSignal | undefined): AsyncIterable<Version> {
    let marker: Marker | undefined = {};
    while (marker) {
      const from: Marker = marker;
      const what = `list the versions of ${prefix}* in ${describePlace(this.#place)}`;
      const page: Page = await this.#calls.call(what, signal, async (attempt) =>
        parsePage(
          await this.#client.send(
            new ListObjectVersionsCommand({ Bucket: this.#place.bucket, Prefix: prefix, ...from }),
            abortable(attempt.signal),
          ),
          { prefix, from: from.KeyMarker, what },
        ),
      );
      yield* page.versions;
      marker = page.next;
    }
  }
}

interface Marker {
  readonly KeyMarker?: string;
  readonly VersionIdMarker?: string;
}

interface Page {
  readonly versions: readonly Version[];
  /** Where the next page begins; undefined behind the last one. */
  readonly next: Marker | undefined;
}

/** The answer's two lists, in one order: by name, and newest first within a name. */
function parsePage(
  page: ListObjectVersionsCommandOutput,
  asked: { prefix: string; from: string | undefined; what: string },
): Page {
  const incomplete = (why: string): LifeboatError =>
    new LifeboatError('repository.store-failed', `could not ${asked.what}: ${why}`);
  const put = (page.Versions ?? []).map((version) => ({ ...version, size: version.Size }));
  const marked = (page.DeleteMarkers ?? []).map((marker) => ({ ...marker, size: -1 }));
  const versions = [...put, ...marked].map(
    ({ Key: key, VersionId: versionId, LastModified: created, size }): Version => {
      if (key === undefined || versionId === undefined || size === undefined || !key.startsWith(asked.prefix)) {
        throw incomplete(`the answer holds '${key}' version '${versionId}' without what was asked for`);
      }
      return { key, versionId, sizeBytes: size < 0 ? undefined : size, createdMs: created?.getTime() ?? 0 };
    },
  );
  // A stable sort keeps the order within a name; where markers stand among the versions of one name matters to nobody.
  versions.sort((a, b) => Buffer.compare(Buffer.from(a.key), Buffer.from(b.key)));
  if (page.IsTruncated !== true) return { versions, next: undefined };
  const { NextKeyMarker: key, NextVersionIdMarker: version } = page;
  if (!key || (versions.length === 0 && key === asked.from))
    throw incomplete('the answer ends early and leads nowhere');
  return { versions, next: { KeyMarker: key, ...(version ? { VersionIdMarker: version } : {}) } };
}

export function abortable(signal: AbortSignal | undefined): { abortSignal?: AbortSignal } {
  return signal ? { abortSignal: signal } : {};
}
