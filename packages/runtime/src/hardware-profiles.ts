/** Hardware profiles for people: those that ship, and new ones from what a machine says of itself. */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock } from '@lifeboat/foundation/clock';
import { LifeboatError, messageOf } from '@lifeboat/foundation/errors';
import { silentLog } from '@lifeboat/foundation/log';
import { formatBytes, MiB } from '@lifeboat/foundation/units';
import { formatHardwareProfile, type HardwareProfile } from '@lifeboat/guest/profile/hardware-profile';
import {
  profileFromLspci,
  profileFromMachine,
  profileName,
  type MachineFacts,
} from '@lifeboat/guest/profile/make-profile';
import { loadHardwareProfile, shippedProfileNames } from '@lifeboat/guest/profile/shipped-profiles';
import { openLibvirtHypervisor } from '@lifeboat/hypervisor/libvirt/libvirt-hypervisor';
import type { Configuration } from './configuration.ts';

/** lspci with -vvv prints some hundred KB on a large server. */
const MAX_LIST_BYTES = 4 * MiB;

/**
 * What a hardware profile calls itself: for a command that wants to know early whether there is one.
 * Errors: `guest.profile-not-found`, `guest.profile-invalid`.
 */
export async function describeProfile(
  nameOrPath: string,
): Promise<{ readonly name: string; readonly description: string }> {
  const { name, description } = await loadHardwareProfile(nameOrPath);
  return { name, description };
}

/** The shipped ones, by name. */
export async function listProfiles(): Promise<HardwareProfile[]> {
  const profiles: HardwareProfile[] = [];
  for (const name of await shippedProfileNames()) profiles.push(await loadHardwareProfile(name));
  return profiles;
}

/** A profile as the text of its file. Errors as for `describeProfile`. */
export async function profileText(nameOrPath: string): Promise<string> {
  return formatHardwareProfile(await loadHardwareProfile(nameOrPath));
}

/** Errors: `guest.hardware-list-invalid`, also when the file cannot be read. */
export async function profileTextFromLspci(path: string, facts: MachineFacts): Promise<string> {
  return formatHardwareProfile(profileFromLspci(await readList(path), path, facts));
}

/** Errors: `guest.hardware-list-invalid`; those of finding a machine. */
export async function profileTextFromDomain(
  configuration: Configuration,
  machine: string,
  name: string | undefined,
): Promise<string> {
  const hypervisor = openLibvirtHypervisor({
    uri: configuration.libvirt.uri,
    socketPath: configuration.libvirt.socketPath,
    log: silentLog,
    clock: systemClock,
    kvmProbeCacheFile: join(configuration.stateRoot, 'kvm-probe.json'),
  });
  try {
    const described = await hypervisor.findMachine(machine);
    return formatHardwareProfile(profileFromMachine(described, name ?? profileName(described.name)));
  } finally {
    await hypervisor.close();
  }
}

async function readList(path: string): Promise<string> {
  const invalid = (why: string, cause?: unknown): LifeboatError =>
    new LifeboatError('guest.hardware-list-invalid', `${path} ${why}`, { cause, context: { path } });
  try {
    const file = await open(path, 'r');
    try {
      const stats = await file.stat();
      if (!stats.isFile()) throw invalid('is not a file');
      if (stats.size > MAX_LIST_BYTES) {
        throw invalid(`holds ${formatBytes(stats.size)}; at most ${formatBytes(MAX_LIST_BYTES)} are read`);
      }
      return await file.readFile('utf8');
    } finally {
      await file.close();
    }
  } catch (error) {
    if (error instanceof LifeboatError) throw error;
    throw invalid(`cannot be read: ${messageOf(error)}`, error);
  }
}
