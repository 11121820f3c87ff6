import { uuid4 } from '@temporalio/workflow';

/**
 * A fresh operation id. The workflow chooses it (replay repeats the choice), so every attempt on the host finds what the
 * one before left. 64 random bits, and short: it becomes part of socket paths, which end at 107 bytes.
 */
export function newOpId(prefix: 'cap' | 'boot' | 'res' | 'dep' | 'cmp' | 'def' | 'fsc' | 'pre'): string {
  return `${prefix}-${uuid4().replaceAll('-', '').slice(0, 16)}`;
}
