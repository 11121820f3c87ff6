/** Looks at every version of every control object. Nothing is changed; what is found is said by name, with what to do. */
import type { Core } from '../core.ts';
import { controlObject } from '../format/names.ts';
import { controlName } from '../seal/control-records.ts';
import { isUselessObject } from '../store/bad-object.ts';
import type { StoreOptions } from '../store/object-store.ts';
import { listVersions, readVersion, type ControlObject, type ObjectKey } from './control-objects.ts';

export interface ObjectFinding {
  readonly kind: 'version-missing' | 'version-damaged' | 'version-broken' | 'foreign';
  /** False for what means nothing. */
  readonly isLoss: boolean;
  /** Its name in the store. */
  readonly object: string;
  readonly what: string;
  readonly next: string;
}

/** Errors: those of the store. */
export async function checkObjects(core: Core, options: StoreOptions = {}): Promise<ObjectFinding[]> {
  const { versions, foreign } = await listVersions(core, undefined, options);
  const findings: ObjectFinding[] = foreign.map((object) => ({
    kind: 'foreign',
    isLoss: false,
    object,
    what: `${object} lies among the control objects, and nobody with the keys put it there; it means nothing`,
    next: 'Find out who can write to the store.',
  }));
  for (const { key, numbers } of versions) findings.push(...(await checkObject(core, { key, numbers }, options)));
  return findings;
}

async function checkObject(
  core: Core,
  { key, numbers }: { readonly key: ObjectKey; readonly numbers: readonly number[] },
  options: StoreOptions,
): Promise<ObjectFinding[]> {
  const findings: ObjectFinding[] = [];
  const report = (kind: ObjectFinding['kind'], version: number, why: string): void => {
    const isNewest = version === numbers.at(-1);
    findings.push({
      kind,
      isLoss: true,
      object: controlName(core, controlObject({ ...key, version })),
      what: `version ${version} of ${key.kind} ${key.id} is not as it was written: ${why}`,
      next: `Bring it back from a copy of the repository. ${isNewest ? 'Until then the version before it counts.' : 'The newest version counts all the same.'}`,
    });
  };
  let before: ControlObject | undefined;
  let expected = 1;
  for (const version of numbers) {
    for (; expected < version; expected++) report('version-missing', expected, 'it is not there any more');
    expected = version + 1;
    try {
      const read = await readVersion(core, { ...key, version }, options);
      const { previous } = read;
      if (before?.version === version - 1 && (previous?.version !== before.version || previous.hash !== before.hash))
        report(
          'version-broken',
          version,
          `it was made for another version ${before.version} than the one that is there`,
        );
      before = read;
    } catch (error) {
      if (!isUselessObject(error)) throw error;
      report('version-damaged', version, error.message);
    }
  }
  return findings;
}
