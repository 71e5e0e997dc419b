// Runs the seed's Go sample as it is: gives it the Update and the bot's logic that it leaves out.
package main

import (
	"io"
	"os"
	"sync"
)

type Update string

var goOn = make(chan struct{})

func handleUpdate(update Update) {
	switch update {
	case "hold":
		<-goOn
	case "fail":
		panic("the bot's logic failed")
	}
}

func main() {
	var held sync.WaitGroup
	for i := 0; i < 3; i++ {
		held.Add(1)
		go func() {
			defer held.Done()
			processMessage("hold")
		}()
	}
	io.Copy(io.Discard, os.Stdin)
	close(goOn)
	held.Wait()
	for i := 0; i < 20; i++ {
		processMessage("short")
	}
	func() {
		defer func() {
			if recover() == nil {
				os.Exit(1)
			}
		}()
		processMessage("fail")
	}()
}
