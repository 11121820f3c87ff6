import type { Catalogue } from './entry.ts';

export const hypervisorErrors = {} as const satisfies Catalogue;
