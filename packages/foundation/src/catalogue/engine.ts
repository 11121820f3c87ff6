import type { Catalogue } from './entry.ts';

export const engineErrors = {} as const satisfies Catalogue;
