import type { Catalogue } from './entry.ts';

export const nbdErrors = {} as const satisfies Catalogue;
