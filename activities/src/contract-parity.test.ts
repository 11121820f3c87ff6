import { describe, expect, test } from 'vitest';
import type * as contract from '@lifeboat/contracts/workflow/verbs';
import type * as engine from '@lifeboat/engine/verbs';
import type { Branded } from '@lifeboat/foundation/ids';

/**
 * The contracts room may not import the engine, so both declare the verbs' inputs and summaries. These assignments do not
 * compile when one of them changes alone; `tsc` is the judge, the run only shows that the file is looked at.
 */
type Plain<T> =
  T extends Branded<string, string>
    ? string
    : T extends readonly (infer E)[]
      ? readonly Plain<E>[]
      : T extends object
        ? { readonly [K in keyof T]: Plain<T[K]> }
        : T;

type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;
/** What travels has one field more than the engine's input: the epoch at which it was admitted. */
type Travels<T> = T extends { opId: unknown } ? T & { readonly epoch: number } : T;

type Parity<E, C> = Same<Plain<E>, C>;
type AdmittedParity<E, C> = Same<Travels<Plain<E>>, C>;

describe('contracts and engine declare the same verbs', () => {
  test('inputs', () => {
    const same: [
      AdmittedParity<engine.CaptureInput, contract.CaptureInput>,
      Parity<engine.CheckInput, contract.CheckInput>,
      AdmittedParity<engine.BootTestInput, contract.BootTestInput>,
      AdmittedParity<engine.RestoreInput, contract.RestoreInput>,
      AdmittedParity<engine.RedeployInput, contract.RedeployInput>,
      AdmittedParity<engine.CompareFilesInput, contract.CompareFilesInput>,
      AdmittedParity<engine.DefineInput, contract.DefineInput>,
      Parity<engine.AbandonInput, contract.AbandonInput>,
      Parity<engine.LinkInput, contract.LinkInput>,
    ] = [true, true, true, true, true, true, true, true, true];
    expect(same).not.toContain(false);
  });

  test('summaries', () => {
    const same: [
      Parity<engine.CaptureSummary, contract.CaptureSummary>,
      Parity<engine.PointSummary, contract.PointSummary>,
      Parity<engine.CheckSummary, contract.CheckSummary>,
      Parity<engine.BootTestSummary, contract.BootTestSummary>,
      Parity<engine.RestoreSummary, contract.RestoreSummary>,
      Parity<engine.RedeployPlanSummary, contract.RedeployPlanSummary>,
      Parity<engine.RedeploySummary, contract.RedeploySummary>,
      Parity<engine.CompareFilesSummary, contract.CompareFilesSummary>,
      Parity<engine.DefineSummary, contract.DefineSummary>,
      Parity<engine.LinkSummary, contract.LinkSummary>,
    ] = [true, true, true, true, true, true, true, true, true, true];
    expect(same).not.toContain(false);
  });

  test('the comparison itself notices a difference', () => {
    const different: [Same<{ a: string }, { a: number }>, Same<{ a: string }, { a: string; b: string }>] = [
      false,
      false,
    ];
    expect(different).not.toContain(true);
  });
});
