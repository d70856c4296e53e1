// An agent in Go without any SDK: it asks the model through ANTHROPIC_BASE_URL and streams the text.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
)

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type invocation struct {
	Prompt   string    `json:"prompt"`
	Messages []message `json:"messages"`
}

func invoke(w http.ResponseWriter, r *http.Request) {
	var in invocation
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	body, _ := json.Marshal(map[string]any{
		"model": os.Getenv("PORTSIDE_MODEL"), "max_tokens": 500, "stream": true, "messages": in.Messages,
	})
	url := os.Getenv("ANTHROPIC_BASE_URL") + "/v1/messages"
	call, _ := http.NewRequestWithContext(r.Context(), http.MethodPost, url, bytes.NewReader(body))
	call.Header.Set("Content-Type", "application/json")
	call.Header.Set("Anthropic-Version", "2023-06-01")
	call.Header.Set("Baggage", r.Header.Get("Baggage"))
	answer, err := http.DefaultClient.Do(call)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		http.Error(w, answer.Status, http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		data, found := strings.CutPrefix(lines.Text(), "data: ")
		var event struct {
			Delta struct{ Text string } `json:"delta"`
		}
		if !found || json.Unmarshal([]byte(data), &event) != nil || event.Delta.Text == "" {
			continue
		}
		text, _ := json.Marshal(event.Delta.Text)
		fmt.Fprintf(w, "data: %s\n\n", text)
		w.(http.Flusher).Flush()
	}
}

func main() {
	http.HandleFunc("POST /invocations", invoke)
	http.HandleFunc("GET /ping", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"status":"Healthy"}`) })
	log.Fatal(http.ListenAndServe(":"+os.Getenv("PORT"), nil))
}
