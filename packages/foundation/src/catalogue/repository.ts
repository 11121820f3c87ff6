import type { Catalogue } from './entry.ts';

export const repositoryErrors = {} as const satisfies Catalogue;
