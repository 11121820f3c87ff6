import { execFile } from 'node:child_process';
import type { Dirent } from 'node:fs';
import { link, mkdir, open, readdir, stat, unlink, type FileHandle } from 'node:fs/promises';
import { promisify } from 'node:util';

export interface FileStatus {
  readonly size: number;
  readonly mtimeMs: number;
  readonly dev: number;
  readonly ino: number;
}

/** A rename of one file takes no time; a disk that was pulled out may hold it up. */
const RENAME_LIMIT_MS = 60_000;

/** The part of the file system a directory store uses, as a port: tests let it fail. */
export interface Files {
  open(path: string, flags: string, mode?: number): Promise<FileHandle>;
  stat(path: string): Promise<FileStatus>;
  readdir(path: string): Promise<Dirent[]>;
  link(existing: string, fresh: string): Promise<void>;
  /** Renames unless `fresh` is taken; then `existing` stays where it is, and nothing is thrown. */
  renameNew(existing: string, fresh: string): Promise<void>;
  unlink(path: string): Promise<void>;
  mkdir(path: string, mode: number): Promise<void>;
}

export const nodeFiles: Files = {
  open,
  stat,
  readdir: (path) => readdir(path, { withFileTypes: true }),
  link,
  renameNew: async (existing, fresh) => {
    // renameat2(RENAME_NOREPLACE), which Node does not offer.
    const options = ['--no-clobber', '--no-target-directory', '--', existing, fresh];
    await promisify(execFile)('mv', options, { timeout: RENAME_LIMIT_MS, env: { ...process.env, LC_ALL: 'C' } });
  },
  unlink,
  mkdir: async (path, mode) => {
    await mkdir(path, { mode });
  },
};
