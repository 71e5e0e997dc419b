package main

import (
    "fmt"
    "net/http"
    "os"
    "time"
)

var sidecarURL = os.Getenv("SIDECAR_URL")

func startRequest() {
    http.Post(sidecarURL+"/start-request", "", nil)
}

func endRequest(duration time.Duration) {
    url := fmt.Sprintf("%s/end-request?duration=%s", sidecarURL, duration)
    http.Post(url, "", nil)
}

func processMessage(update Update) {
    start := time.Now()
    startRequest()
    defer endRequest(time.Since(start))

    // Your bot logic
    handleUpdate(update)
}
