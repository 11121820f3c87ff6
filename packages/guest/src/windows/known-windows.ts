/** Releases of Windows by the names people give them, with the newest build of each. */
import { windowsArchitectures, type WindowsVersion } from './windows-version.ts';

const RELEASES: Readonly<Record<string, readonly [number, number, number, 'workstation' | 'server']>> = {
  xp: [5, 1, 2600, 'workstation'],
  2003: [5, 2, 3790, 'server'],
  vista: [6, 0, 6002, 'workstation'],
  2008: [6, 0, 6002, 'server'],
  7: [6, 1, 7601, 'workstation'],
  '2008r2': [6, 1, 7601, 'server'],
  8: [6, 2, 9200, 'workstation'],
  2012: [6, 2, 9200, 'server'],
  '8.1': [6, 3, 9600, 'workstation'],
  '2012r2': [6, 3, 9600, 'server'],
  10: [10, 0, 19045, 'workstation'],
  2016: [10, 0, 14393, 'server'],
  2019: [10, 0, 17763, 'server'],
  2022: [10, 0, 20348, 'server'],
  11: [10, 0, 22631, 'workstation'],
  2025: [10, 0, 26100, 'server'],
};

/** In the order of their release. */
export const KNOWN_WINDOWS: readonly string[] = Object.keys(RELEASES).toSorted((a, b) => ageOf(a) - ageOf(b));

/** `2022`, `10-x86`, `11-arm64`; amd64 where no architecture is said. Nothing where it is not known. */
export function knownWindows(text: string): WindowsVersion | undefined {
  const [name = '', named = 'amd64', ...more] = text.toLowerCase().split('-');
  const release = Object.hasOwn(RELEASES, name) ? RELEASES[name] : undefined;
  const architecture = windowsArchitectures.find((known) => known === named);
  if (release === undefined || architecture === undefined || more.length > 0) return undefined;
  const [major, minor, build, productType] = release;
  return { major, minor, build, architecture, productType };
}

function ageOf(name: string): number {
  const [major = 0, minor = 0, build = 0] = RELEASES[name] ?? [];
  return (major * 10 + minor) * 100_000 + build;
}
