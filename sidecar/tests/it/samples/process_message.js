const axios = require('axios');
const SIDECAR_URL = process.env.SIDECAR_URL || 'http://localhost:8081';

async function processMessage(update) {
  const startTime = Date.now();

  try {
    await axios.post(`${SIDECAR_URL}/start-request`);
  } catch (err) {
    // Ignore errors
  }

  try {
    // Your bot logic
    await handleUpdate(update);
  } finally {
    const duration = (Date.now() - startTime) / 1000;
    try {
      await axios.post(`${SIDECAR_URL}/end-request?duration=${duration}s`);
    } catch (err) {
      // Ignore errors
    }
  }
}
