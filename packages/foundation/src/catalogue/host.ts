import type { Catalogue } from './entry.ts';

export const hostErrors = {} as const satisfies Catalogue;
