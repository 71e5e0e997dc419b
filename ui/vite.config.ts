import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vite';

export default defineConfig({
  // Relative, so that the page works under any path of a proxy.
  base: './',
  plugins: [svelte()],
  build: {
    // app/build.rs says where to; by hand it goes beside the sources.
    outDir: process.env.WATCHKEEPER_PAGE_FOLDER ?? 'dist',
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: false,
    reportCompressedSize: false,
    target: 'es2022',
  },
  server: {
    // `npm run dev` beside a program that serves.
    proxy: Object.fromEntries(['/api', '/ready', '/health'].map((path) => [path, 'http://127.0.0.1:8470'])),
  },
});
