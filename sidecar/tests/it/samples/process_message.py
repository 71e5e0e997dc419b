import requests
import time

SIDECAR_URL = os.getenv('SIDECAR_URL', 'http://localhost:8081')

def process_message(update):
    start_time = time.time()

    # Notify start
    try:
        requests.post(f"{SIDECAR_URL}/start-request", timeout=1)
    except:
        pass

    try:
        # Your bot logic here
        handle_update(update)
    finally:
        # Notify end
        duration = time.time() - start_time
        try:
            requests.post(
                f"{SIDECAR_URL}/end-request?duration={duration}s",
                timeout=1
            )
        except:
            pass
