/** Which drivers of a store Windows would take for the devices of a hardware profile, best first, and what they would install. */
import type { HardwareProfile, PciDevice } from '../profile/hardware-profile.ts';
import { pciDeviceIds } from '../windows/device-ids.ts';
import { compareRanks, matchIds, type Ranked } from '../windows/driver-rank.ts';
import { type DriverInstall, readHeader, readInstall, readModels } from '../windows/inf-driver.ts';
import type { InfFile } from '../windows/inf-file.ts';
import type { WindowsVersion } from '../windows/windows-version.ts';
import type { DriverStore } from './driver-store.ts';
import type { DriverPackage, PackagedDriver, PackagedFile } from './driver-catalogue.ts';
import { readInf } from './read-packages.ts';

export interface DriverCandidate extends Ranked {
  readonly package: Pick<DriverPackage, 'id' | 'name'>;
  readonly driver: Pick<
    PackagedDriver,
    'inf' | 'provider' | 'className' | 'classGuid' | 'date' | 'version' | 'catalogueFile'
  >;
  readonly description: string;
  /** Of the model; in upper case. */
  readonly modelIds: readonly string[];
  readonly install: DriverInstall;
  /** Every file of the package. */
  readonly files: readonly PackagedFile[];
  /** Names of the services, that of the device first. */
  readonly services: readonly string[];
  /** Why it cannot be used though it matches: files that the INF names and the package lacks. */
  readonly missingFiles: readonly string[];
}

export interface DeviceMatch {
  readonly device: PciDevice;
  /** Every id that was looked for, most specific first. */
  readonly lookedFor: readonly string[];
  /** Best first. */
  readonly candidates: readonly DriverCandidate[];
  /** Drivers of the store that have one of the ids, for another Windows or architecture. */
  readonly forOthers: readonly { readonly name: string; readonly targets: readonly string[] }[];
}

/** The devices that a machine starts from and is reached by; others wait until it runs. */
export async function matchDrivers(
  store: DriverStore,
  { profile, windows, signal }: { profile: HardwareProfile; windows: WindowsVersion; signal: AbortSignal },
): Promise<DeviceMatch[]> {
  const wanted = profile.pciDevices
    .filter(({ role }) => role !== 'other')
    .map((device) => {
      const ids = pciDeviceIds(device);
      return {
        device,
        ids,
        lookedFor: [...ids.hardware, ...ids.compatible],
        candidates: [] as DriverCandidate[],
        forOthers: [] as DeviceMatch['forOthers'][number][],
      };
    });
  for (const pack of await store.packages()) {
    for (const driver of pack.drivers) {
      signal.throwIfAborted();
      const askers = wanted.filter(({ lookedFor }) => lookedFor.some((id) => driver.ids.includes(id)));
      if (askers.length === 0) continue;
      // Read once, however many devices ask.
      const inf = await readInf(store.directoryOf(pack.id), driver.inf);
      for (const { ids, candidates, forOthers } of askers) {
        const found = candidatesOf(inf, { pack, driver, windows, ids });
        candidates.push(...found);
        if (found.length === 0) forOthers.push({ name: pack.name, targets: driver.targets });
      }
    }
  }
  return wanted.map(({ device, lookedFor, candidates, forOthers }) => ({
    device,
    lookedFor,
    candidates: candidates.toSorted(compareRanks),
    forOthers,
  }));
}

function candidatesOf(
  inf: InfFile,
  {
    pack,
    driver,
    windows,
    ids,
  }: { pack: DriverPackage; driver: PackagedDriver; windows: WindowsVersion; ids: ReturnType<typeof pciDeviceIds> },
): DriverCandidate[] {
  const { driverVersion } = readHeader(inf);
  const there = new Set(pack.files.map(({ path }) => path.toLowerCase()));
  const folder = driver.inf.slice(0, driver.inf.lastIndexOf('/') + 1);
  return readModels(inf, windows).flatMap((model): DriverCandidate[] => {
    const match = matchIds(ids, model.ids);
    const install = match && readInstall(inf, model, windows);
    if (!install) return [];
    const { inf: path, provider, className, classGuid, date, version, catalogueFile } = driver;
    return [
      {
        match,
        featureScore: install.featureScore,
        driverVersion,
        package: { id: pack.id, name: pack.name },
        driver: {
          inf: path,
          provider,
          className,
          classGuid,
          date,
          version,
          ...(catalogueFile ? { catalogueFile } : {}),
        },
        description: model.description,
        modelIds: model.ids,
        install,
        files: pack.files,
        services: install.services
          .toSorted((a, b) => Number(b.isAssociated) - Number(a.isAssociated))
          .map(({ name }) => name),
        missingFiles: install.files
          .map(({ source }) => `${folder}${source}`)
          .filter((source) => !there.has(source.toLowerCase())),
      },
    ];
  });
}
