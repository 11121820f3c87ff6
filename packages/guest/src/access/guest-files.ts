/** The files of a guest as whoever inspects it reads them, mounted (`GuestTree`) or not (`ImageTree`). */
export interface GuestFiles {
  /** The guest path behind all symlinks, or undefined if something on the way does not exist. Error: `guest.path-unusable`. */
  resolve(path: string): Promise<string | undefined>;
  isFile(path: string): Promise<boolean>;
  isDirectory(path: string): Promise<boolean>;
  /** Names in a directory, sorted; empty when there is no such directory. */
  list(path: string): Promise<string[]>;
  /**
   * The content of a regular file; undefined when there is none.
   * Errors: `guest.path-unusable` when it is no regular file or larger than `maxBytes` (default 4 MiB).
   */
  read(path: string, options?: { maxBytes?: number }): Promise<Buffer | undefined>;
  readText(path: string, options?: { maxBytes?: number }): Promise<string | undefined>;
}

/** As many as Linux follows. */
export const MAX_SYMLINKS = 40;
export const DEFAULT_MAX_BYTES = 4 * 1024 * 1024;

export function pathComponents(path: string): string[] {
  return path.split('/').filter((part) => part !== '' && part !== '.');
}
