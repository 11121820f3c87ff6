/**
 * Files of a filesystem that is not mounted, as far as they can be read from its bytes. Every read is bounded; a structure that
 * leads outside the volume, in a circle, or is unknown ends it with `guest.filesystem-unreadable`.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';

export interface FileNode {
  readonly kind: 'file' | 'directory' | 'symlink' | 'other';
  readonly sizeBytes: number;
  /** Another one whenever the file is another or was written to; absent where the filesystem keeps no such record. */
  readonly stamp?: string;
  /** Of a directory: names, without `.` and `..`. */
  names(): Promise<string[]>;
  /** Of a directory; undefined when there is none of this name. FAT takes upper and lower case for the same. */
  child(name: string): Promise<FileNode | undefined>;
  /** Of a file, from its start: all of it, or with `maxBytes` that much. */
  read(maxBytes?: number): Promise<Buffer>;
  /** Of a symlink. */
  target(): Promise<string>;
}

export interface ReadOptions {
  readonly signal?: AbortSignal;
}

/** Larger files are not what a machine starts with. */
export const MAX_FILE_BYTES = 512 * 1024 * 1024;
export const MAX_DIRECTORY_BYTES = 16 * 1024 * 1024;
export const MAX_DIRECTORY_ENTRIES = 100_000;

export function unreadable(problem: string): LifeboatError {
  return new LifeboatError('guest.filesystem-unreadable', problem);
}
