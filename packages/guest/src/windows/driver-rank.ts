/**
 * Which of several drivers Windows would take for a device: "How Windows Ranks Drivers" (Vista and later) of the Windows Driver Kit.
 *
 *   rank 0xSSGGTHHH   SS signature, GG feature score, T which kinds of id met, HHH their places; the lowest wins
 *
 * Equal ranks: the newer date, then the higher version.
 */
import type { DeviceIds } from './device-ids.ts';
import type { DriverVersion } from './inf-driver.ts';
import { compareNumbers } from './windows-version.ts';

/** Which id of the device met which of the model. */
export interface IdMatch {
  readonly id: string;
  /** 0xTHHH. */
  readonly score: number;
}

export interface Ranked {
  readonly match: IdMatch;
  readonly featureScore: number;
  readonly driverVersion: DriverVersion;
}

const COMPATIBLE_OF_MODEL = 0x1000;
const COMPATIBLE_OF_DEVICE = 0x2000;
/** Where both are compatible ids, the place in the model counts, too: the first is 0x3000, the next 0x3100. */
const PLACE_IN_MODEL = 0x100;
const MAX_PLACE = 0xff;
const MAX_MODEL_PLACE = 0xf;

/** The best match of a device with the ids of a model (the hardware id, then compatible ids; in upper case). */
export function matchIds(device: DeviceIds, modelIds: readonly string[]): IdMatch | undefined {
  let best: IdMatch | undefined;
  const consider = (id: string, score: number): void => {
    if (best === undefined || score < best.score) best = { id, score };
  };
  for (const [inModel, id] of modelIds.entries()) {
    if (id === '') continue;
    const isHardware = inModel === 0;
    const hardware = device.hardware.indexOf(id);
    if (hardware >= 0) consider(id, Math.min(hardware, MAX_PLACE) + (isHardware ? 0 : COMPATIBLE_OF_MODEL));
    const compatible = device.compatible.indexOf(id);
    if (compatible < 0) continue;
    const place = Math.min(compatible, MAX_PLACE) + COMPATIBLE_OF_DEVICE;
    consider(
      id,
      isHardware ? place : place + COMPATIBLE_OF_MODEL + Math.min(inModel - 1, MAX_MODEL_PLACE) * PLACE_IN_MODEL,
    );
  }
  return best;
}

/** For sorting: what Windows would rather take comes first. */
export function compareRanks(a: Ranked, b: Ranked): number {
  const rank = ({ featureScore, match }: Ranked): number[] => [featureScore, match.score];
  const age = ({ driverVersion: { date, version } }: Ranked): number[] => [...date, ...version];
  return compareNumbers(rank(a), rank(b)) || compareNumbers(age(b), age(a));
}
