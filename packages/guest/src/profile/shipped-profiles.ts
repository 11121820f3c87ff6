/** Hardware profiles from files: those that come with Lifeboat, by name, and those an operator wrote, by path. */
import { open, readdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { LifeboatError, messageOf, systemCode } from '@lifeboat/foundation/errors';
import { KiB } from '@lifeboat/foundation/units';
import { parseHardwareProfile, type HardwareProfile } from './hardware-profile.ts';

const SHIPPED = new URL('../../profiles/', import.meta.url);
const MAX_PROFILE_BYTES = 256 * KiB;

/** Names of the shipped profiles, sorted. */
export async function shippedProfileNames(): Promise<string[]> {
  const files = await readdir(SHIPPED);
  return files
    .filter((file) => file.endsWith('.json'))
    .map((file) => file.slice(0, -'.json'.length))
    .sort();
}

/**
 * `nameOrPath`: a shipped profile's name, or the path of a JSON file (anything with a slash or ending in `.json`).
 * Errors: `guest.profile-not-found`, `guest.profile-invalid`.
 */
export async function loadHardwareProfile(nameOrPath: string): Promise<HardwareProfile> {
  if (nameOrPath.includes('/') || nameOrPath.endsWith('.json')) return readProfile(nameOrPath, nameOrPath);
  const names = await shippedProfileNames();
  if (!names.includes(nameOrPath)) {
    throw new LifeboatError(
      'guest.profile-not-found',
      `There is no hardware profile '${nameOrPath}'; shipped are ${names.join(', ')}, and a path to a JSON file is taken too`,
      { context: { profile: nameOrPath } },
    );
  }
  return readProfile(fileURLToPath(new URL(`${nameOrPath}.json`, SHIPPED)), nameOrPath);
}

async function readProfile(path: string, source: string): Promise<HardwareProfile> {
  let text: string;
  try {
    const file = await open(path, 'r');
    try {
      const { size } = await file.stat();
      if (size > MAX_PROFILE_BYTES) {
        throw new LifeboatError(
          'guest.profile-invalid',
          `${source} holds ${size} bytes; a profile has at most ${MAX_PROFILE_BYTES}`,
        );
      }
      text = await file.readFile('utf8');
    } finally {
      await file.close();
    }
  } catch (error) {
    if (error instanceof LifeboatError) throw error;
    const why = systemCode(error) === 'ENOENT' ? 'does not exist' : `cannot be read: ${messageOf(error)}`;
    throw new LifeboatError('guest.profile-not-found', `The hardware profile ${source} ${why}`, {
      cause: error,
      context: { profile: source },
    });
  }
  return parseHardwareProfile(text, source);
}
