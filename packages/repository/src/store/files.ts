import type { Dirent } from 'node:fs';
import { link, mkdir, open, readdir, stat, unlink, type FileHandle } from 'node:fs/promises';

/** The part of the file system a directory store uses, as a port: tests let it fail. */
export interface Files {
  open(path: string, flags: string, mode?: number): Promise<FileHandle>;
  stat(path: string): Promise<{ readonly size: number; readonly mtimeMs: number }>;
  readdir(path: string): Promise<Dirent[]>;
  link(existing: string, fresh: string): Promise<void>;
  unlink(path: string): Promise<void>;
  mkdir(path: string, mode: number): Promise<void>;
}

export const nodeFiles: Files = {
  open,
  stat,
  readdir: (path) => readdir(path, { withFileTypes: true }),
  link,
  unlink,
  mkdir: async (path, mode) => {
    await mkdir(path, { mode });
  },
};
