/**
 * Files that our code finds by its own place, `new URL('<path>', import.meta.url)`, where <path> is written out:
 *
 *   a module (.ts)               a bundle of its own, beside the others    a process, a thread, what a thread imports
 *   another file, a directory/   a copy in share/
 *
 * So source says in one way where a file lies, and nothing has to be listed for staging.
 */
import { basename, extname, resolve, sep } from 'node:path';
import type { Plugin } from 'rolldown';

const LOCATED = /new URL\(\s*'([^']+)',\s*import\.meta\.url,?\s*\)/g;
const OWN_PLACE = /import\.meta\.(?:url|resolve)\b/g;

export interface LocatedFiles {
  readonly plugin: Plugin;
  /** What must be copied: from an absolute path to a name in share/. Complete when the bundles are written. */
  readonly shared: ReadonlyMap<string, string>;
}

/** Of `packages/runtime/src/point-export-main.ts`: `runtime-point-export-main`. Unique: a room has no two of them. */
export function bundledName(path: string): string {
  const [room] = path.split(`${sep}src${sep}`);
  return `${basename(room === undefined || room === path ? '' : room)}-${basename(path, extname(path))}`.replace(
    /^-/,
    '',
  );
}

export function locatedFiles(): LocatedFiles {
  const shared = new Map<string, string>();
  const plugin: Plugin = {
    name: 'located-files',
    transform: {
      filter: { id: /\.ts$/ },
      handler(code, id) {
        const staged = code.replace(LOCATED, (_, path: string) => {
          const file = resolve(id, '..', path);
          if (extname(file) !== '.ts') {
            shared.set(file, basename(file));
            return `new URL('../share/${basename(file)}${path.endsWith('/') ? '/' : ''}', import.meta.url)`;
          }
          this.emitFile({ type: 'chunk', id: file, fileName: `${bundledName(file)}.js` });
          return `new URL('./${bundledName(file)}.js', import.meta.url)`;
        });
        if (code.match(OWN_PLACE)?.length !== code.match(LOCATED)?.length) {
          this.error(`${id} asks for its own place in a way that does not survive bundling`);
        }
        return staged === code ? null : { code: staged };
      },
    },
  };
  return { plugin, shared };
}
