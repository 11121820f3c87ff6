/** The store of driver packages of this host: `<state>/drivers`. */
import { join } from 'node:path';
import { systemClock } from '@lifeboat/foundation/clock';
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { DriverPackage } from '@lifeboat/guest/drivers/driver-catalogue';
import { DriverStore, type AddReport, type PackageDamage } from '@lifeboat/guest/drivers/driver-store';
import { matchDrivers, type DeviceMatch } from '@lifeboat/guest/drivers/match-drivers';
import { loadHardwareProfile } from '@lifeboat/guest/profile/shipped-profiles';
import { knownWindows, KNOWN_WINDOWS } from '@lifeboat/guest/windows/known-windows';
import type { Configuration } from './configuration.ts';

const storeOf = ({ stateRoot }: Configuration): DriverStore => new DriverStore(join(stateRoot, 'drivers'));

export function addDrivers(
  configuration: Configuration,
  { path, licence, signal }: { path: string; licence?: string; signal: AbortSignal },
): Promise<AddReport> {
  return storeOf(configuration).add(path, {
    nowMs: systemClock.nowMs(),
    signal,
    ...(licence === undefined ? {} : { licence }),
  });
}

export async function listDrivers(
  configuration: Configuration,
): Promise<{ readonly packages: readonly DriverPackage[]; readonly signer: string | undefined }> {
  const store = storeOf(configuration);
  return { packages: await store.packages(), signer: await store.signer() };
}

/** `windows`: a name of `KNOWN_WINDOWS`, with `-x86` and the like behind it. Errors: `input.invalid`, those of profile and store. */
export async function matchDriversFor(
  configuration: Configuration,
  { target, windows, signal }: { target: string; windows: string; signal: AbortSignal },
): Promise<{ readonly profile: string; readonly devices: readonly DeviceMatch[] }> {
  const version = knownWindows(windows);
  if (version === undefined) {
    throw new LifeboatError(
      'input.invalid',
      `'${windows}' is no Windows that is known here: ${KNOWN_WINDOWS.join(', ')}, with -x86, -amd64 or -arm64 behind it`,
      { context: { windows } },
    );
  }
  const profile = await loadHardwareProfile(target);
  return {
    profile: profile.name,
    devices: await matchDrivers(storeOf(configuration), { profile, windows: version, signal }),
  };
}

export function verifyDrivers(
  configuration: Configuration,
  signal: AbortSignal,
): Promise<{ readonly packages: number; readonly files: number; readonly damage: readonly PackageDamage[] }> {
  return storeOf(configuration).verify(signal);
}
