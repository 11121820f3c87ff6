/** The plan for what is on restored disks: a Linux, or else a Windows. */
import { join } from 'node:path';
import { hasCode } from '@lifeboat/foundation/errors';
import type { VerbContext } from '@lifeboat/foundation/progress';
import { withGuest } from '@lifeboat/guest/access/open-guest';
import { systemUnpackers } from '@lifeboat/guest/access/system-unpackers';
import { DriverStore } from '@lifeboat/guest/drivers/driver-store';
import { inspectGuest } from '@lifeboat/guest/inspect/inspect-guest';
import { planRedeploy as planLinux, type RedeployPlan } from '@lifeboat/guest/plan/redeploy-plan';
import type { HardwareProfile } from '@lifeboat/guest/profile/hardware-profile';
import { loadHardwareProfile } from '@lifeboat/guest/profile/shipped-profiles';
import { planWindowsOn } from '@lifeboat/guest/windows/plan-disks';
import type { WindowsPlan } from '@lifeboat/guest/windows/windows-plan';
import type { Operation } from '@lifeboat/host/operation';
import type { EngineDeps } from '../deps.ts';
import type { RedeployInput } from '../verbs.ts';
import { guestDisk } from './guest-disk.ts';

/** One recorded before there was Windows has no `system`. */
export type AnyPlan = RedeployPlan | WindowsPlan;

export function isWindowsPlan(plan: AnyPlan): plan is WindowsPlan {
  return 'system' in plan && plan.system === 'windows';
}

export function driverStore({ stateRoot }: Pick<EngineDeps, 'stateRoot'>): DriverStore {
  return new DriverStore(join(stateRoot, 'drivers'));
}

/** Errors: those of `withGuest`; where neither system is found, what was said of Linux. */
export async function makePlan(
  deps: Pick<EngineDeps, 'stateRoot' | 'clock'>,
  operation: Operation,
  input: RedeployInput,
  context: VerbContext,
): Promise<AnyPlan> {
  const profile = await loadHardwareProfile(input.profile);
  context.progress({ phase: 'inspect', doneBytes: 0 });
  try {
    return await planForLinux(operation, input, profile);
  } catch (error) {
    if (!hasCode(error, 'guest.no-root', 'guest.layout-unsupported')) throw error;
    const plan = await planForWindows(deps, operation, input, profile);
    if (plan === undefined) throw error;
    return plan;
  }
}

async function planForLinux(
  operation: Operation,
  input: RedeployInput,
  profile: HardwareProfile,
): Promise<RedeployPlan> {
  const inspection = await withGuest(accessOf(operation, input), ({ tree, mounted }) =>
    inspectGuest(tree, mounted, systemUnpackers(operation.signal)),
  );
  return planLinux(inspection, profile, { newIdentity: input.newIdentity ?? false });
}

/** Undefined: there is no Windows. */
async function planForWindows(
  deps: Pick<EngineDeps, 'stateRoot' | 'clock'>,
  operation: Operation,
  input: RedeployInput,
  profile: HardwareProfile,
): Promise<WindowsPlan | undefined> {
  const from = { profile, store: driverStore(deps), nowMs: deps.clock.nowMs() };
  try {
    const plan = await planWindowsOn(accessOf(operation, input), from);
    const identity =
      'Windows keeps its identity: run sysprep in it, or rename it, before both machines are on one network.';
    return input.newIdentity ? { ...plan, warnings: [...plan.warnings, identity] } : plan;
  } catch (error) {
    if (hasCode(error, 'guest.no-root', 'guest.layout-unsupported')) return undefined;
    throw error;
  }
}

function accessOf({ directory, signal }: Operation, { disks }: RedeployInput) {
  return { disks: disks.map(guestDisk), directory, signal };
}
