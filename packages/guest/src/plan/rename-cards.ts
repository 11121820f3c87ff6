/** Which address each network card of the guest has on the new hardware. */
import { spelledAs, type AddressUse } from '../linux/network-addresses.ts';
import type { HardwareProfile } from '../profile/hardware-profile.ts';
import type { PlannedEdit } from './redeploy-plan.ts';

/**
 * The first card that the guest names gets the address of the profile's first card, and so on; a card whose address is there already
 * keeps it. What is in doubt, and what is left over, goes to `warnings`.
 */
export function renameCards(
  uses: readonly AddressUse[],
  profile: HardwareProfile,
  warnings: string[],
): Extract<PlannedEdit, { kind: 'rename-cards' }>[] {
  const named = [...new Set(uses.map(({ mac }) => mac))];
  if (named.length === 0) return [];
  const files = [...new Set(uses.map(({ path }) => path))].join(', ');
  if (profile.macs === undefined) {
    warnings.push(
      `The guest knows its network cards by their addresses (${named.join(', ')} in ${files}), and those of '${profile.name}' are not known; with "macs" in the profile they are written there.`,
    );
    return [];
  }
  const old = named.filter((mac) => profile.macs?.includes(mac) === false);
  const free = profile.macs.filter((mac) => !named.includes(mac));
  const to = new Map(old.flatMap((mac, index) => (free[index] === undefined ? [] : [[mac, free[index]] as const])));
  const left = old.filter((mac) => !to.has(mac));
  if (left.length > 0) {
    warnings.push(`'${profile.name}' has no network card for ${left.join(', ')}, which ${files} asks for.`);
  }
  if (old.length > 1 || free.length > 1) {
    const pairs = [...to].map(([from, by]) => `${from} becomes ${by}`).join(', ');
    if (pairs !== '')
      warnings.push(`Network cards were paired in their order: ${pairs}. Check that each is on its network.`);
  }
  const names = new Map<string, { line: number; from: string; to: string }[]>();
  for (const { path, line, text, mac } of uses) {
    const by = to.get(mac);
    if (by !== undefined) names.set(path, [...(names.get(path) ?? []), { line, from: text, to: spelledAs(by, text) }]);
  }
  return [...names].map(([path, ofFile]) => ({
    kind: 'rename-cards',
    path,
    why: `network cards of '${profile.name}' have other addresses`,
    names: ofFile,
  }));
}
